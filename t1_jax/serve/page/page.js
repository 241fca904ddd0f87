// The page of `t1 serve`: streams a thought, lets a person change it, and shows what that changes.
// All text goes into the document as text, never as HTML.
"use strict";

const K = 10;
const SEVERAL = 3;
const $ = (id) => document.getElementById(id);

// query; mode: think, auto, off or compare; sentences: those of a changed thought, or null for the
// model's own; pinned: numbers of pinned sentences.
const state = { query: "", mode: "think", ranking: "dense", sentences: null, pinned: new Set() };
let original = [];   // sentences of the model's thought
let shown = [];      // sentences on the page
let ranks = null;    // document id -> rank of the list before
let running = null;  // AbortController of what is being asked for

function element(name, { text, className, ...rest } = {}, ...children) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  for (const [key, value] of Object.entries(rest)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// As `split_sentences` of t1_jax.evaluate: together they are the text.
function splitSentences(text) {
  return (text.match(/[^]*?(?:[.!?;]+\s+|\n+|$)/g) || []).filter((part) => part.trim());
}

// The state in the address, so that a link reproduces it.

function writeAddress() {
  const parameters = new URLSearchParams({ q: state.query, mode: state.mode, ranking: state.ranking });
  if (state.sentences !== null) parameters.set("thought", JSON.stringify(state.sentences));
  if (state.pinned.size) parameters.set("pinned", [...state.pinned].join("."));
  history.replaceState(null, "", `#${parameters}`);
}

function readAddress() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  state.query = parameters.get("q") || "";
  if (["think", "auto", "off", "compare"].includes(parameters.get("mode"))) {
    state.mode = parameters.get("mode");
  }
  const ranking = parameters.get("ranking");
  if ([...$("ranking").options].some((option) => option.value === ranking && !option.disabled)) {
    state.ranking = ranking;
  }
  state.sentences = null;
  try {
    const sentences = JSON.parse(parameters.get("thought"));
    if (Array.isArray(sentences) && sentences.every((part) => typeof part === "string")) {
      state.sentences = sentences;
    }
  } catch { /* a damaged link is one without a thought */ }
  state.pinned = new Set((parameters.get("pinned") || "").split(".").filter(Boolean).map(Number));
}

function fillForm() {
  $("query").value = state.query;
  document.querySelector(`input[name="mode"][value="${state.mode}"]`).checked = true;
  $("ranking").value = state.ranking;
}

// Requests

async function failureOf(response) {
  try {
    const { error } = await response.json();
    return [error.message, error.hint].filter(Boolean).join(": ");
  } catch {
    return `${response.status} ${response.statusText}`;
  }
}

// As fetch, with an error that says what to do where the server does not answer at all.
async function reach(address, options = {}) {
  try {
    return await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the server cannot be reached: check that it runs");
  }
}

async function ask(body, signal) {
  for (let attempt = 0; ; attempt++) {
    const response = await reach("/v1/search", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal,
    });
    if (response.ok) return response;
    const seconds = Number(response.headers.get("Retry-After"));
    if (![429, 503].includes(response.status) || !seconds || attempt === 3) {
      throw new Error(await failureOf(response));
    }
    say(`The server is busy; trying again in ${seconds} s.`);
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

// Calls onToken for each piece of text, and returns the result.
async function search(body, signal, onToken) {
  const request = { query: state.query, k: K, ranking: state.ranking, ...body };
  const response = await ask({ ...request, stream: true }, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the answer ended early");
    buffer += value;
    const events = buffer.split("\n\n");
    buffer = events.pop();
    for (const event of events) {
      const name = (event.match(/^event: (.*)$/m) || [])[1];
      const data = (event.match(/^data: (.*)$/m) || [])[1];
      if (name === "token") onToken(JSON.parse(data));
      if (name === "result") return JSON.parse(data);
      if (name === "error") {
        const { error } = JSON.parse(data);
        throw new Error([error.message, error.hint].filter(Boolean).join(": "));
      }
    }
  }
}

// Runs one piece of work; a new one ends the one before.
async function run(work) {
  if (running) running.abort();
  const controller = (running = new AbortController());
  $("error").hidden = true;
  $("stop").hidden = false;
  writeAddress();
  try {
    await work(controller.signal);
  } catch (error) {
    if (controller.signal.aborted) return;
    $("error").textContent = error.message;
    $("error").hidden = false;
    say("");
    if (state.sentences === null) {  // what is shown belongs to another query
      for (const id of ["thinking", "single", "compared"]) $(id).hidden = true;
    }
  } finally {
    if (running === controller) {
      running = null;
      $("stop").hidden = true;
      $("stream").classList.remove("running");
    }
  }
}

function say(text) { $("status").textContent = text; }

// One query

function bodyOfMode(mode) {
  return mode === "think" ? {} : { think: mode };
}

async function searchOnce(signal, { prefix } = {}) {
  $("compared").hidden = true;
  $("single").hidden = ranks === null;
  const given = state.sentences !== null && prefix === undefined;
  $("thinking").hidden = state.mode === "off" && !given;
  $("tools").hidden = !given && prefix === undefined;
  $("facts").textContent = "";
  const stream = $("stream");
  let body = bodyOfMode(state.mode);
  if (given) {
    body = { thoughts: [state.sentences.join("")] };
  } else {
    $("sentences").replaceChildren();
    stream.textContent = "";
    stream.classList.add("running");
    if (prefix !== undefined) body.thought_prefix = prefix;
    say(state.mode === "off" ? "Searching." : "Thinking.");
  }
  const started = performance.now();
  const result = await search(body, signal, (token) => { stream.textContent += token.text; });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  stream.classList.remove("running");
  stream.textContent = "";
  if (given) {
    shown = state.sentences;
  } else {
    const text = result.thoughts.length ? result.thoughts[0].text : "";
    shown = splitSentences(text);
    if (prefix === undefined) {
      original = shown;
    } else {  // the beginning was the user's: the whole is kept in the address
      state.sentences = shown;
      writeAddress();
    }
    if (result.thoughts.length) $("facts").textContent = factsOf(result, seconds);
  }
  showSentences();
  showHits($("results"), result.hits, ranks);
  $("single").hidden = false;
  ranks = new Map(result.hits.map((hit) => [hit.id, hit.rank]));
  const count = result.hits.length;
  say(`${count} document${count === 1 ? "" : "s"} in ${seconds} s.`);
}

function factsOf(result, seconds) {
  const [thought] = result.thoughts;
  const ends = {
    emb_token: "the model ended it", eos: "the model ended it", length: "cut at the limit",
    settled: "its embedding had settled", deadline: "cut at the deadline",
  };
  const parts = [`${thought.tokens} tokens`, ends[thought.finish_reason]];
  if (result.cached) parts.push("known from before");
  if (result.truncated) parts.push("the query was too long and was truncated");
  return `${parts.join(", ")}, ${seconds} s`;
}

function showHits(list, hits, before) {
  list.replaceChildren(...hits.map((hit) => {
    const title = element("span", { className: "title", text: hit.title || hit.id });
    const item = element("li", {},
      element("span", { className: "score", text: hit.score.toFixed(4), title: "score" }),
      element("span", { className: "rank", text: `${hit.rank}.` }), title);
    if (before) item.append(changeOf(hit, before));
    if (placeOf(hit) !== title.textContent) {
      item.append(element("div", { className: "quiet place", text: placeOf(hit) }));
    }
    if (hit.sentence) item.append(element("div", {}, element("mark", { text: hit.sentence })));
    if (hit.text && hit.text.trim() !== hit.sentence) {
      item.append(element("details", {},
        element("summary", { text: "whole text" }), element("pre", { text: hit.text })));
    }
    item.dataset.id = hit.id;
    return item;
  }));
}

// File and line of a passage, whose id is its file and first line; and else the id.
function placeOf(hit) {
  const file = hit.id.slice(0, Math.max(hit.id.lastIndexOf(":"), 0));
  return hit.path && file && hit.path.endsWith(file) ? `${hit.path}:${hit.line}` : hit.id;
}

function changeOf(hit, before) {
  if (!before.has(hit.id)) return element("span", { className: "change up", text: "new" });
  const change = before.get(hit.id) - hit.rank;
  if (!change) return "";
  const word = change > 0 ? "up" : "down";
  return element("span", {
    className: `change ${word}`, text: `${change > 0 ? "▲" : "▼"} ${Math.abs(change)}`,
    "aria-label": `${word} ${Math.abs(change)}, was ${before.get(hit.id)}`,
  });
}

// The thought, sentence by sentence

// The list is made again; the focus stays where it was, or goes to what took that place.
function showSentences() {
  const list = $("sentences");
  const focused = document.activeElement;
  const place = [...list.children].findIndex((item) => item.contains(focused));
  const before = place < 0 ? null : list.children[place];
  const wasEdited = before !== null && before.querySelector("textarea") !== null;
  const button = wasEdited ? 1 : before && [...before.querySelectorAll("button")].indexOf(focused);
  list.replaceChildren(...shown.map((sentence, number) => {
    const name = `sentence ${number + 1}`;
    const isPinned = state.pinned.has(number);
    const pin = element("button", {
      type: "button", text: "Pin", "aria-pressed": String(isPinned), "aria-label": `Pin ${name}`,
    });
    const edit = element("button", { type: "button", text: "Edit", "aria-label": `Edit ${name}` });
    const drop = element("button", { type: "button", text: "Delete", "aria-label": `Delete ${name}` });
    const item = element("li", { className: isPinned ? "sentence pinned" : "sentence" },
      element("span", { className: "text", text: sentence.trim() }), pin, edit, drop);
    pin.addEventListener("click", () => {
      state.pinned.has(number) ? state.pinned.delete(number) : state.pinned.add(number);
      writeAddress();
      showSentences();
    });
    edit.addEventListener("click", () => editSentence(item, number));
    drop.addEventListener("click", () => changeThought(
      shown.filter((_, other) => other !== number), number, true));
    return item;
  }));
  $("thinking").hidden = state.mode === "off" && state.sentences === null;
  $("tools").hidden = false;
  $("rethink").disabled = !state.pinned.size;
  $("restore").disabled = state.sentences === null;
  if (place < 0) return;
  const item = list.children[Math.min(place, shown.length - 1)];
  (item ? item.querySelectorAll("button")[button] : $("add")).focus();
}

function editSentence(item, number) {
  const area = element("textarea", { rows: "2", "aria-label": `Text of sentence ${number + 1}` });
  area.value = shown[number].trim();
  const save = element("button", { type: "button", text: "Save" });
  const cancel = element("button", { type: "button", text: "Cancel" });
  const finish = (keep) => {
    if (!keep || area.value.trim() === shown[number].trim()) {
      if (!shown[number].trim()) shown = shown.filter((_, other) => other !== number);
      return showSentences();
    }
    const text = area.value.trim();
    const end = (shown[number].match(/\s*$/) || [""])[0] || " ";
    const changed = [...shown];
    text ? changed.splice(number, 1, text + end) : changed.splice(number, 1);
    return changeThought(changed, number, !text);
  };
  save.addEventListener("click", () => finish(true));
  cancel.addEventListener("click", () => finish(false));
  area.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); finish(true); }
    if (event.key === "Escape") finish(false);
  });
  item.replaceChildren(element("span", { className: "text" }, area), save, cancel);
  area.focus();
}

// A changed thought is searched with at once. `number` is that of the sentence that was changed, or
// deleted.
function changeThought(sentences, number, isDeleted) {
  if (isDeleted) {
    state.pinned = new Set([...state.pinned].filter((n) => n !== number)
      .map((n) => (n > number ? n - 1 : n)));
  }
  state.sentences = shown = sentences;
  showSentences();
  return run((signal) => searchOnce(signal));
}

// All modes side by side

async function compareAll(signal) {
  $("thinking").hidden = true;
  $("single").hidden = true;
  const holder = $("compared");
  holder.hidden = false;
  const columns = [
    ["No thought", { think: "off" }], ["One thought", {}],
    [`${SEVERAL} thoughts, mean vector`, { n: SEVERAL }],
    [`${SEVERAL} thoughts, fused rankings`, { n: SEVERAL, fusion: "rank" }],
  ];
  holder.replaceChildren(...columns.map(([title]) => element("section", {},
    element("h2", { text: title }), element("div", { className: "column" }))));
  say("Thinking.");
  let plain = null;
  for (const [number, [title, body]] of columns.entries()) {
    const column = holder.children[number].lastElementChild;
    const texts = new Map();
    const boxOf = (sample) => {
      if (!texts.has(sample)) {
        texts.set(sample, element("div", { className: "thought" }));
        column.append(texts.get(sample));
      }
      return texts.get(sample);
    };
    const result = await search(body, signal, (token) => {
      boxOf(token.sample).textContent += token.text;
    });
    for (const thought of result.thoughts) boxOf(thought.sample).textContent = thought.text.trim();
    const list = element("ol", { className: "hits", "aria-label": title });
    showHits(list, result.hits, plain);
    const facts = [];
    if (plain) {
      facts.push(`${result.hits.filter((hit) => plain.has(hit.id)).length} of ${result.hits.length} `
        + "also found without a thought");
    }
    if (result.spread !== null) facts.push(`spread ${result.spread.toFixed(3)}`);
    column.append(element("p", { className: "quiet", text: facts.join(", ") }), list);
    plain = plain || new Map(result.hits.map((hit) => [hit.id, hit.rank]));
  }
  say("Compared. Changes of rank are against no thought.");
}

function start() {
  const query = state.query.trim();
  if (!query) {
    $("query").focus();
    return undefined;
  }
  document.title = `${query.slice(0, 60)} · T1`;
  return run(state.mode === "compare" ? compareAll : (signal) => searchOnce(signal));
}

// Wiring

$("form").addEventListener("submit", (event) => {
  event.preventDefault();
  state.query = $("query").value;
  state.mode = document.querySelector('input[name="mode"]:checked').value;
  state.ranking = $("ranking").value;
  state.sentences = null;
  state.pinned = new Set();
  ranks = null;
  start();
});
$("ranking").addEventListener("change", () => {
  state.ranking = $("ranking").value;
  if (state.query) start();
});
$("stop").addEventListener("click", () => {
  if (running) running.abort();
  running = null;
  $("stop").hidden = true;
  $("stream").classList.remove("running");
  say("Stopped.");
});
$("add").addEventListener("click", () => {
  shown = [...shown, " "];
  showSentences();
  editSentence($("sentences").lastElementChild, shown.length - 1);
});
$("restore").addEventListener("click", () => {
  const known = original.length > 0;
  state.sentences = known ? original : null;
  state.pinned = new Set();
  run(async (signal) => {
    await searchOnce(signal);
    state.sentences = null;
    $("restore").disabled = true;
    writeAddress();
  });
});
$("rethink").addEventListener("click", () => {
  const kept = shown.filter((_, number) => state.pinned.has(number));
  state.pinned = new Set(kept.keys());
  const prefix = kept.map((part) => (/\s$/.test(part) ? part : `${part} `)).join("");
  if (state.mode === "off") state.mode = "think";
  run((signal) => searchOnce(signal, { prefix }));
});
window.addEventListener("hashchange", () => { readAddress(); fillForm(); start(); });

async function infoWhenReady() {
  for (;;) {
    const response = await reach("/info");
    if (response.ok) {
      say("");
      return response.json();
    }
    const seconds = Number(response.headers.get("Retry-After"));
    const failure = await failureOf(response);
    if (response.status !== 503 || !seconds) throw new Error(failure);
    say(`${failure[0].toUpperCase()}${failure.slice(1)}.`);
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  }
}

async function open() {
  try {
    const info = await infoWhenReady();
    const index = info.index;
    $("about").textContent = index
      ? `${info.model_id} over ${index.name}: ${index.documents.toLocaleString("en")} documents`
      : `${info.model_id}, without an index`;
    if (!index) throw new Error("this server has no index: start it with one, as in t1 serve --index cwe");
    for (const option of $("ranking").options) {
      option.disabled = option.value !== "dense" && !index.has_texts;
    }
    state.ranking = index.ranking;
    $("examples").replaceChildren(...info.examples.map((text) => {
      const chip = element("button", { type: "button", text });
      chip.addEventListener("click", () => { $("query").value = text; $("form").requestSubmit(); });
      return chip;
    }));
    readAddress();
    fillForm();
    start();
  } catch (error) {
    $("error").textContent = error.message;
    $("error").hidden = false;
  }
}

open();
