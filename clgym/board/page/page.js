"use strict";
(() => {
  const PAGE = 100;
  const at = (id) => document.getElementById(id);
  const data = JSON.parse(at("board-data").textContent);

  // An element with text, never with markup: names come from other people's records.
  function make(tag, text, attributes = {}) {
    const element = document.createElement(tag);
    if (text !== undefined && text !== null) element.textContent = text;
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  }

  // --- theme ---------------------------------------------------------------------------------
  const THEMES = ["system", "light", "dark"];
  let theme = "system";
  try { theme = localStorage.getItem("clgym-theme") || theme; } catch { /* storage is closed */ }
  function paint() {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    at("theme").textContent = `Theme: ${theme}`;
  }
  at("theme").addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try { localStorage.setItem("clgym-theme", theme); } catch { /* it lasts until the page closes */ }
    paint();
  });
  paint();

  // --- tables: sorting, filtering, a page at a time -------------------------------------------
  const collator = new Intl.Collator("en", { numeric: true });
  const tables = [...document.querySelectorAll("section.board")].map((section) => ({
    section,
    body: section.querySelector("tbody"),
    heads: [...section.querySelectorAll("thead th")],
    rows: [...section.querySelectorAll("tbody tr")].map((element) => ({
      element, values: [], text: "", match: true,
    })),
    more: section.querySelector(".more"),
    shown: PAGE,
  }));

  // Only the rows that are shown are in the document: thousands more cost nothing.
  function show(table) {
    const found = table.rows.filter((row) => row.match);
    table.body.replaceChildren(...found.slice(0, table.shown).map((row) => row.element));
    const left = found.length - table.shown;
    table.more.hidden = left <= 0;
    table.more.firstElementChild.textContent = `Show ${Math.min(left, PAGE)} more of ${left}`;
    table.section.hidden = found.length === 0;
    return found.length;
  }

  function value(row, column) {
    if (row.values[column] === undefined) {
      const text = row.element.cells[column].dataset.v, number = Number(text);
      row.values[column] = text === "" ? null : Number.isNaN(number) ? text : number;
    }
    return row.values[column];
  }

  function compare(a, b, column, sign) {
    const one = value(a, column), other = value(b, column);
    if (one === null || other === null) return (one === null) - (other === null);
    if (typeof one === "number" && typeof other === "number") return sign * (one - other);
    return sign * collator.compare(String(one), String(other));
  }

  function sort(table, column) {
    const head = table.heads[column], now = head.getAttribute("aria-sort");
    const next = !now ? head.dataset.first : now === "ascending" ? "descending" : "ascending";
    for (const other of table.heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", next);
    table.rows.sort((a, b) => compare(a, b, column, next === "ascending" ? 1 : -1));
    show(table);
  }

  const filters = document.querySelector(".filters");
  function filter() {
    const words = at("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const [stream, mode, trust] = ["stream", "mode", "trust"].map((id) => at(id).value);
    let count = 0, all = 0;
    for (const table of tables) {
      const { dataset } = table.section;
      for (const row of table.rows) {
        const own = row.element.dataset;
        row.text ||= `${row.element.textContent} ${dataset.stream} ${dataset.shared} ${own.mode}`.toLowerCase();
        row.match = (!stream || dataset.stream === stream) && (!mode || own.mode === mode)
          && (!trust || own.trust === trust)
          && words.every((word) => row.text.includes(word));
      }
      table.shown = PAGE;
      all += table.rows.length;
      count += show(table);
    }
    at("found").textContent = count < all ? `${count} of ${all} rows` : "";
  }
  if (filters) {
    filters.addEventListener("input", filter);
    filters.addEventListener("submit", (event) => event.preventDefault());
    filters.addEventListener("reset", () => setTimeout(filter));
  }

  for (const table of tables) {
    table.heads.forEach((head, column) => {
      head.firstElementChild.addEventListener("click", () => sort(table, column));
    });
    table.body.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row && !event.target.closest("a") && !String(getSelection())) visit(`details-${row.dataset.entry}`);
    });
    table.more.firstElementChild.addEventListener("click", () => {
      table.shown += PAGE;
      show(table);
    });
    show(table);
  }

  // --- addresses: #row-ID is a row, #details-ID its details; the back button undoes each ---------
  const places = new Map();
  for (const table of tables) for (const row of table.rows) places.set(row.element.dataset.entry, { table, row });
  const dialog = at("details");
  let opened = false; // whether this page added the details to the history

  function visit(place) {
    opened = true;
    location.hash = place;
  }

  function leave() {
    if (!location.hash.startsWith("#details-")) return;
    if (opened) history.back();
    else history.replaceState(null, "", location.hash.replace("#details-", "#row-"));
    opened = false;
  }

  // Put a row into the document, whatever filters and pages hide, and mark it.
  function reveal(id) {
    const place = places.get(id);
    if (!place) return false;
    const { table, row } = place;
    if (!row.match && filters) {
      for (const field of filters.querySelectorAll("input, select")) field.value = "";
      filter();
    }
    table.shown = Math.max(table.shown, PAGE * Math.ceil((table.rows.indexOf(row) + 1) / PAGE));
    show(table);
    document.querySelector(".found")?.classList.remove("found");
    row.element.classList.add("found");
    return true;
  }

  function follow() {
    const [, kind, id] = /^#(row|details)-(.+)$/.exec(location.hash) || [];
    if (kind !== "details") {
      opened = false;
      if (dialog.open) dialog.close();
    }
    if (!kind || (opened && kind === "details" ? !places.has(id) : !reveal(id))) return;
    if (kind === "row" || !opened) places.get(id).row.element.scrollIntoView({ block: "center" });
    if (kind === "details" && !dialog.open) open(id);
  }
  addEventListener("hashchange", follow);

  // --- details: built when asked for ----------------------------------------------------------
  at("close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("close", leave);

  function open(id) {
    const entry = data[id], body = at("details-body");
    if (!entry) return;
    at("details-title").textContent = entry.title;
    at("details-where").textContent = entry.where;
    at("details-link").href = `#row-${id}`;
    body.replaceChildren();
    dialog.showModal(); // first: what is drawn asks how wide it is
    const [first, ...rest] = entry.facts;
    facts(body, first);
    part(body, "Runs", grid(entry.runs, "Every run of this row"));
    if (entry.after?.[0].length > 1) part(body, "Accuracy after each experience, %", curve(entry.after));
    if (entry.matrix?.length > 1) part(body, "Accuracy matrix, mean over runs, %", heat(entry.matrix));
    if (entry.segments) part(body, "Error by segment, %", bars(entry.segments));
    for (const section of rest) facts(body, section);
    body.scrollTop = 0;
    at("close").focus();
  }

  function part(body, title, content) {
    body.append(make("h3", title), content);
  }

  function facts(body, [title, pairs]) {
    const plain = pairs.every(([name]) => !name);
    const list = make(plain ? "ul" : "dl", null, plain ? {} : { class: "facts" });
    for (const [name, value] of pairs) {
      if (plain) list.append(make("li", value));
      else list.append(make("dt", name), make("dd", value));
    }
    part(body, title, list);
  }

  function framed(table, label) {
    const frame = make("div", null, { class: "scroll", tabindex: 0, role: "region", "aria-label": label });
    table.prepend(make("caption", label, { class: "hidden-visually" }));
    frame.append(table);
    return frame;
  }

  function line(cells, first) {
    const row = make("tr");
    cells.forEach((text, i) => row.append(
      first || i ? make(first ? "th" : "td", text, first ? { scope: "col" } : {}) : make("th", text, { scope: "row" }),
    ));
    return row;
  }

  function grid({ head, body }, label) {
    const table = make("table", null, { class: "small" }), top = make("thead"), rows = make("tbody");
    top.append(line(head, true));
    rows.append(...body.map((cells) => line(cells, false)));
    table.append(top, rows);
    return framed(table, label);
  }

  // Cividis (Nunez et al. 2018): its order holds for every kind of colour vision.
  const CIVIDIS = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]];
  function colour(value) {
    const place = Math.min(Math.max(value, 0), 1) * (CIVIDIS.length - 1);
    const low = Math.min(Math.floor(place), CIVIDIS.length - 2);
    const mixed = CIVIDIS[low].map((v, i) => Math.round(v + (place - low) * (CIVIDIS[low + 1][i] - v)));
    return [`rgb(${mixed.join(" ")})`, value < 0.5 ? "#ffffff" : "#000000"];
  }

  function heat(matrix) {
    const table = make("table", null, { class: "heat" }), top = make("thead"), rows = make("tbody");
    top.append(line(["after \\ on", ...matrix.map((_, j) => j + 1)], true));
    matrix.forEach((measured, i) => {
      const row = line([i + 1, ...measured.map((v) => (v === null ? "" : (100 * v).toFixed(matrix.length > 12 ? 0 : 1)))]);
      measured.forEach((v, j) => {
        if (v !== null) [row.cells[j + 1].style.background, row.cells[j + 1].style.color] = colour(v);
      });
      rows.append(row);
    });
    table.append(top, rows);
    return framed(table, "Accuracy after experience (row) on the test images of experience (column), percent");
  }

  function bars(segments) {
    const table = make("table", null, { class: "small" }), top = make("thead"), rows = make("tbody");
    top.append(line(["segment", "error, %", ""], true));
    top.rows[0].cells[2].replaceWith(make("td"));
    for (const [name, error] of segments) {
      const row = line([name, (100 * error).toFixed(2), ""]), bar = make("span");
      bar.style.width = `${100 * error}%`;
      row.cells[2].className = "barcell";
      row.cells[2].append(bar);
      rows.append(row);
    }
    table.append(top, rows);
    return framed(table, "Error by segment, percent");
  }

  function svg(tag, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  }

  function curve(runs) {
    const width = Math.min(608, Math.max(280, at("details-body").clientWidth - 40));
    const [height, left, bottom] = [220, 36, 28], steps = runs[0].length;
    const x = (i) => left + (i * (width - left - 12)) / (steps - 1);
    const y = (v) => 8 + (1 - v) * (height - bottom - 8);
    const same = runs.filter((run) => run.length === steps);
    const mean = runs[0].map((_, i) => same.reduce((sum, run) => sum + run[i], 0) / same.length);
    const label = `Mean accuracy ${mean.map((v) => (100 * v).toFixed(1)).join(", ")} percent`;
    const image = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "curve", role: "img", "aria-label": label });
    for (const v of [0, 0.25, 0.5, 0.75, 1]) {
      image.append(svg("path", { class: "axis", d: `M${left} ${y(v)}H${width - 12}` }));
      image.append(svg("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, 100 * v));
    }
    const every = Math.ceil(steps / 12);
    for (let i = 0; i < steps; i += every) {
      image.append(svg("text", { x: x(i), y: height - 8, "text-anchor": "middle" }, i + 1));
    }
    const path = (run) => run.map((v, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`).join("");
    if (same.length > 1) for (const run of same) image.append(svg("path", { class: "run", d: path(run) }));
    image.append(svg("path", { class: "mean", d: path(mean) }));
    return image;
  }

  follow();
})();
