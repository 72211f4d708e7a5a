"""Sources: labelled image sets by name, their cards and fingerprints, and images on the device."""
