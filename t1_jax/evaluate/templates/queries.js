"use strict";
// The table of queries: filter, sort, and each query with what two rows retrieved for it.
// All texts become text nodes, so nothing that a model or a document says is markup.
for (const panel of document.querySelectorAll(".queries")) {
  const data = JSON.parse(panel.querySelector("script").textContent);
  const body = panel.querySelector("tbody");
  const STEP = 50;
  const state = { first: data.own, second: data.other, sort: "gain", down: true, shown: STEP, kind: "all", text: "" };

  const element = (name, className, ...children) => {
    const node = document.createElement(name);
    if (className) node.className = className;
    node.append(...children.filter((child) => child !== null && child !== undefined));
    return node;
  };
  const number = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits).replace("-", "−"));
  const signed = (value) => (Math.abs(value) < 5e-4 ? "0.000" : (value > 0 ? "+" : "") + number(value, 3));
  const bestRank = (row) => row.ranks.reduce((best, rank) => (rank !== null && (best === null || rank < best) ? rank : best), null);
  const totalTokens = (row) => row.thoughts.reduce((sum, thought) => sum + (thought.tokens || 0), 0);
  const has = (row, test) => row.thoughts.some(test);
  const tests = {
    truncated: (thought) => thought.end === "length",
    repetitive: (thought) => thought.repetition >= data.repetitive,
    empty: (thought) => thought.end !== "given" && !thought.text.trim(),
  };
  const kinds = {
    all: () => true,
    better: (query) => query.gain > 5e-4,
    worse: (query) => query.gain < -5e-4,
    same: (query) => Math.abs(query.gain) <= 5e-4,
    truncated: (query) => has(query.rows[state.first], tests.truncated),
    repetitive: (query) => has(query.rows[state.first], tests.repetitive),
    empty: (query) => has(query.rows[state.first], tests.empty),
    sentences: (query) => query.sentences.length > 0,
  };
  const keys = {
    query: (query) => query.id,
    second: (query) => query.rows[state.second].value,
    first: (query) => query.rows[state.first].value,
    gain: (query) => query.gain,
    rank: (query) => bestRank(query.rows[state.first]) ?? Infinity,
    tokens: (query) => totalTokens(query.rows[state.first]),
  };
  const haystack = (query) => [query.id, query.text, ...query.rows[state.first].thoughts.map((thought) => thought.text)].join("\n").toLowerCase();

  const title = (index) => {
    const [id, name] = data.documents[index];
    return [element("span", "title", name), " ", element("span", "id gone", id)];
  };
  const change = (before, after) => {
    if (before === null || after === null || before === after) return element("span", "quiet", before === after ? "same" : "–");
    return element("span", before > after ? "up" : "down", (before > after ? "▲ " : "▼ ") + Math.abs(before - after));
  };
  const thoughtBlock = (thought) => {
    const ends = { emb_token: "ended by the model", eos: "ended by an end-of-turn token", length: "truncated at the maximum length", given: "given, not sampled" };
    const facts = [thought.tokens === null ? null : thought.tokens + " tokens", ends[thought.end] || thought.end, thought.repetition > 0 ? "repetition " + number(thought.repetition, 2) : null];
    const text = element("div", "text", thought.text.trim() ? thought.text : "The thought is empty.");
    text.dir = "auto";
    return element("section", "thought", text, element("p", "end", facts.filter(Boolean).join(", ") + "."));
  };
  const side = (query, index) => {
    const row = query.rows[index];
    const grades = new Map(query.grades);
    const list = element("ol", "", ...row.hits.map(([document, score], place) => {
      const grade = grades.get(document);
      const item = element("li", grade ? "relevant" : "",
        element("span", "rank", String(place + 1)),
        element("span", "", ...title(document), grade ? element("span", "grade", " ✓ grade " + grade) : null),
        element("span", "score", number(score, 3)),
        element("span", "snippet", data.documents[document][2]));
      return item;
    }));
    const heading = element("h4", "", data.rows[index].label + ", " + data.metric + " " + number(row.value, 3));
    return element("section", "side", heading, ...row.thoughts.map(thoughtBlock), row.hits.length ? list : element("p", "none", "No documents."));
  };
  const headed = (caption, names, rows) => {
    const head = element("tr", "", ...names.map((name, place) => {
      const cell = element("th", place ? "number" : "", name);
      cell.scope = "col";
      return cell;
    }));
    return element("table", "ranks", element("caption", "", caption), element("thead", "", head), element("tbody", "", ...rows));
  };
  const rankTable = (query) => {
    const [first, second] = [query.rows[state.first], query.rows[state.second]];
    const rows = query.grades.slice(0, 10).map(([document, grade], place) => {
      const name = element("th", "", ...title(document));
      name.scope = "row";
      const cells = [String(grade), String(second.ranks[place] ?? "–"), String(first.ranks[place] ?? "–"), change(second.ranks[place], first.ranks[place])];
      return element("tr", "", name, ...cells.map((cell) => element("td", "number", cell)));
    });
    return headed("Ranks of the relevant documents: " + data.rows[state.second].label + " → " + data.rows[state.first].label, ["Document", "Grade", "Before", "After", "Change"], rows);
  };
  const sentenceTable = (query) => {
    const rows = query.sentences.map((sentence) => {
      const name = element("th", "text", sentence.text);
      name.scope = "row";
      const moves = sentence.moves.slice(0, 3).flatMap(([document, before, after], place) => [place ? "; " : "", data.documents[document][1] + " " + before + " → " + after]);
      return element("tr", "", name, element("td", "moves", ...(moves.length ? moves : ["no rank changes"])), element("td", "number", number(sentence.cosine, 3)));
    });
    const table = headed("Each sentence of the thought left out: ranks with it → without it", ["Sentence", "", "Cosine"], rows);
    table.querySelectorAll("thead th")[1].textContent = "Documents that move most";
    table.querySelectorAll("thead th")[1].className = "moves";
    return table;
  };
  // Narrow screens hide some columns; a cell must not span those.
  const visibleColumns = () => [...panel.querySelectorAll(".all > thead th")].filter((head) => head.offsetParent !== null).length;
  const detail = (query) => {
    const text = element("p", "query text", query.text);
    text.dir = "auto";
    const sides = element("div", "sides", side(query, state.first), state.second === state.first ? null : side(query, state.second));
    const cell = element("td", "", text, rankTable(query), query.sentences.length ? sentenceTable(query) : null, sides);
    cell.colSpan = visibleColumns();
    return element("tr", "detail", cell);
  };

  const flags = (query) => Object.keys(tests).filter((name) => has(query.rows[state.first], tests[name]));
  const line = (query) => {
    const [first, second] = [query.rows[state.first], query.rows[state.second]];
    const button = element("button", "open", element("span", "first-line", query.text.trim().split("\n")[0].slice(0, 160)), element("span", "id", query.id, ...flags(query).map((flag) => element("span", "mark", flag))));
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    const name = element("th", "", button);
    name.scope = "row";
    const ranks = [bestRank(second), bestRank(first)].map((rank) => rank ?? "–").join(" → ");
    const row = element("tr", "", name,
      element("td", "number gone", number(second.value, 3)),
      element("td", "number", number(first.value, 3)),
      element("td", "number " + (query.gain > 5e-4 ? "up" : query.gain < -5e-4 ? "down" : "quiet"), signed(query.gain)),
      element("td", "number gone", ranks),
      element("td", "number gone", String(totalTokens(first) || "–")));
    button.addEventListener("click", () => toggle(query, row, button));
    query.row = row;
    query.button = button;
    return row;
  };
  const toggle = (query, row, button) => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    if (open) {
      row.nextElementSibling.remove();
    } else {
      row.after(detail(query));
      history.replaceState(null, "", "#" + panel.id + "=" + encodeURIComponent(query.id));
    }
  };

  const selected = () => {
    const wanted = state.text.toLowerCase();
    const key = keys[state.sort];
    const sign = state.down ? -1 : 1;
    return data.queries
      .filter((query) => kinds[state.kind](query) && haystack(query).includes(wanted))
      .sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        return sign * (x < y ? -1 : x > y ? 1 : 0) || (a.id < b.id ? -1 : 1);
      });
  };
  const more = panel.querySelector(".more-queries");
  const count = panel.querySelector(".count");
  const render = () => {
    data.queries.forEach((query) => { query.gain = query.rows[state.first].value - query.rows[state.second].value; });
    const found = selected();
    body.replaceChildren(...found.slice(0, state.shown).map(line));
    count.textContent = found.length.toLocaleString("en") + " of " + data.queries.length.toLocaleString("en") + " queries" + (data.total > data.queries.length ? " (of " + data.total.toLocaleString("en") + " in all)" : "");
    more.hidden = found.length <= state.shown;
    for (const button of panel.querySelectorAll("button[data-sort]")) {
      const active = button.dataset.sort === state.sort;
      button.closest("th").setAttribute("aria-sort", active ? (state.down ? "descending" : "ascending") : "none");
    }
  };
  const fill = (select, chosen) => {
    data.rows.forEach((row, index) => select.append(new Option(row.label, index, index === chosen, index === chosen)));
  };
  const bind = (selector, event, change) => {
    const control = panel.querySelector(selector);
    control.addEventListener(event, () => { state.shown = STEP; change(control.value); render(); });
    return control;
  };
  fill(bind("select.first", "change", (value) => { state.first = Number(value); }), state.first);
  fill(bind("select.second", "change", (value) => { state.second = Number(value); }), state.second);
  bind("select.kind", "change", (value) => { state.kind = value; });
  bind("input.search", "input", (value) => { state.text = value; });
  for (const button of panel.querySelectorAll("button[data-sort]")) {
    button.addEventListener("click", () => {
      state.down = state.sort === button.dataset.sort ? !state.down : button.dataset.sort !== "query";
      state.sort = button.dataset.sort;
      render();
    });
  }
  more.addEventListener("click", () => { state.shown += STEP; render(); });

  const openQuery = (id) => {
    const query = data.queries.find((item) => item.id === id);
    if (!query) return;
    Object.assign(state, { kind: "all", text: "" });
    panel.querySelector("select.kind").value = "all";
    panel.querySelector("input.search").value = "";
    state.shown = Math.max(state.shown, Math.ceil((selected().indexOf(query) + 1) / STEP) * STEP);
    render();
    toggle(query, query.row, query.button);
    query.row.scrollIntoView({ block: "start" });
    query.button.focus({ preventScroll: true });
  };
  const follow = () => {
    const [name, id] = location.hash.slice(1).split("=");
    if (name === panel.id && id) openQuery(decodeURIComponent(id));
  };
  render();
  panel.hidden = false;
  addEventListener("hashchange", follow);
  addEventListener("resize", () => { for (const cell of body.querySelectorAll(".detail > td")) cell.colSpan = visibleColumns(); });
  follow();
}
