"use strict";
// The state of the pipelines, made anew every few seconds; and the box: a message, what the model makes of it, and
// why. Everything shown is put in as text, never as markup.

const COLOURS = ["#2f7fd6", "#d9722b", "#2e9e6b", "#b95fc2", "#c79a1e", "#3aa5b8"];
const SHOWN = 6; // categories that get a colour

async function renew() {
  const state = document.getElementById("state");
  try {
    const answer = await fetch("/", { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    state.replaceChildren(...page.getElementById("state").childNodes);
  } catch { /* the daemon is away: what was seen last stays */ }
}
setInterval(renew, 5000);

function made(name, text, attributes = {}) {
  const element = document.createElement(name);
  if (text) element.textContent = text;
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

function ranked(vector) {
  return vector.map((value, c) => [value, c]).filter(([value]) => value > 0).sort((a, b) => b[0] - a[0]);
}

function strongest(term) {
  return term.cv && term.cv.length ? ranked(term.cv)[0] : undefined;
}

function rounded(value) {
  return value.toFixed(2);
}

function painted(term, tree, colours) {
  const top = strongest(term);
  if (!top) return document.createTextNode(term.text);
  const [value, c] = top;
  const mark = made("mark", term.text);
  const share = Math.round(18 + 62 * Math.min(value, 1));
  mark.style.background = `color-mix(in srgb, ${colours.get(c) || "#888"} ${share}%, transparent)`;
  mark.title = `speaks for ${tree.categories[c]}: ${rounded(value)} (learned ${Math.round(term.fr[c])} times there)`;
  return mark;
}

function message(tree, colours) {
  const box = made("div", "", { class: "message" });
  const sentences = tree.paragraphs.flatMap((paragraph) => paragraph.sentences);
  const several = sentences.filter((sentence) => ranked(sentence.cv).length).length > 1;
  for (const paragraph of tree.paragraphs) {
    for (const sentence of paragraph.sentences) {
      for (const term of sentence.terms) box.append(painted(term, tree, colours));
      const top = ranked(sentence.cv)[0];
      if (several && top) {
        box.append(made("small", ` ${tree.categories[top[1]]} ${rounded(top[0])} `, { class: "sum" }));
      }
    }
  }
  return box;
}

function bars(tree, order, colours) {
  const list = made("ul", "", { class: "bars" });
  for (const [value, c] of order.slice(0, SHOWN)) {
    const row = made("li");
    row.append(made("span", tree.categories[c]));
    const bar = made("i");
    bar.style.width = `${(55 * value) / order[0][0]}%`;
    bar.style.background = colours.get(c);
    row.append(bar, made("b", rounded(value)));
    list.append(row);
  }
  return list;
}

function words(tree) {
  const best = new Map();
  for (const term of tree.paragraphs.flatMap((p) => p.sentences).flatMap((s) => s.terms)) {
    const top = strongest(term);
    if (top) best.set(term.term, [top[0], `speaks for ${tree.categories[top[1]]}`, rounded(top[0]), Math.round(term.fr[top[1]])]);
  }
  const rows = [...best].sort((a, b) => b[1][0] - a[1][0]).slice(0, 8);
  if (!rows.length) return document.createTextNode("");
  const table = made("table");
  const head = made("tr");
  for (const name of ["word", "", "weight", "times learned there"]) head.append(made("th", name, { scope: "col" }));
  table.append(head);
  for (const [word, [, what, weight, times]] of rows) {
    const row = made("tr");
    row.append(made("td", word), made("td", what), made("td", weight), made("td", String(times)));
    table.append(row);
  }
  return table;
}

function told(answer) {
  const tree = answer.tree;
  const label = Array.isArray(answer.label) ? answer.label.join(", ") : answer.label;
  const order = ranked(tree.cv);
  const colours = new Map(order.slice(0, SHOWN).map(([, c], i) => [c, COLOURS[i]]));
  const parts = [made("p", label || "unknown", { class: "label" })];
  if (!order.length) {
    const guess = label ? " The answer is the usual one for messages it knows nothing about." : "";
    const known = tree.categories.length ? "No word of this message says anything yet." : "Nothing was learned yet.";
    return [...parts, made("p", known + guess)];
  }
  parts.push(made("p", "Each coloured word speaks for the kind of message in that colour, because it was learned "
    + "mostly from messages of that kind. The stronger the colour, the more it weighs. Words without a colour say "
    + "nothing, or are as common everywhere. The weights are added up, and the largest sum decides:"));
  parts.push(message(tree, colours), bars(tree, order, colours), words(tree));
  return parts;
}

let asked = 0;
async function ask() {
  const form = document.getElementById("box"), why = document.getElementById("why");
  const text = form.elements.text.value, mine = ++asked;
  if (!text.trim()) return why.replaceChildren();
  let parts;
  try {
    const name = encodeURIComponent(form.elements.pipeline.value);
    const answer = await fetch(`/v1/pipelines/${name}/explain`, { method: "POST", body: JSON.stringify({ text }) });
    const said = await answer.json();
    parts = answer.ok && said.tree ? told(said) : [made("p", said.error || "no explanation", { class: "refused" })];
  } catch {
    parts = [made("p", "The daemon does not answer.", { class: "refused" })];
  }
  if (mine === asked) why.replaceChildren(...parts);
}

const box = document.getElementById("box");
if (box) {
  let later;
  box.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
  box.addEventListener("input", () => { clearTimeout(later); later = setTimeout(ask, 300); });
}
