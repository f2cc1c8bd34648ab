// A blind listening test: AB (which is better), ABX (which one is X), MOS (how natural, 1 to 5).
// Which system is behind a sound is in `key`, Base64, so that it cannot be read by accident; it is decoded on export.
"use strict";
const { title, sounds, trials, key } = JSON.parse(document.getElementById("trials").textContent);
const main = document.getElementById("main");
const answers = [];
let listener = "", order = [], at = 0, shown = 0;

const random = n => { // unbiased whole number in 0..n-1
  const limit = Math.floor(2 ** 32 / n) * n, word = new Uint32Array(1);
  do crypto.getRandomValues(word); while (word[0] >= limit);
  return word[0] % n;
};
const shuffled = list => {
  const out = [...list];
  for (let i = out.length - 1; i > 0; i--) { const j = random(i + 1); [out[i], out[j]] = [out[j], out[i]]; }
  return out;
};
const element = (name, fields = {}, ...inside) => {
  const e = Object.assign(document.createElement(name), fields);
  e.append(...inside);
  return e;
};
const player = (label, id, heard) => {
  const audio = element("audio", { controls: true, src: sounds[id], preload: "auto" });
  audio.addEventListener("ended", () => heard(label));
  audio.addEventListener("play", () => document.querySelectorAll("audio").forEach(a => a === audio || a.pause()));
  return element("div", { className: "row" }, element("b", { textContent: label }), audio);
};

const questions = {
  ab: { ask: "Which one sounds better to you?", choices: ["A", "B", "no difference"] },
  abx: { ask: "X is the same recording as A or as B. Which one?", choices: ["A", "B"] },
  mos: { ask: "How natural does it sound?", choices: ["5 excellent", "4 good", "3 fair", "2 poor", "1 bad"] },
};

function start() {
  const name = element("input", { placeholder: "your initials or a made-up name", size: 32, id: "listener" });
  const go = element("button", { textContent: "Begin", id: "begin" });
  go.onclick = () => { listener = name.value.trim() || "anonymous"; order = shuffled(trials); at = 0; show(); };
  main.replaceChildren(
    element("p", { textContent: `${title} Use headphones. ${trials.length} questions; you can stop at any time and ` +
      "still keep what you have answered. Every sound must be heard to its end before you can answer." }), name, go);
}

function show() {
  if (at === order.length) return finish();
  const trial = order[at], labels = trial.kind === "mos" ? ["A"] : ["A", "B"], q = questions[trial.kind];
  const ids = shuffled(trial.sounds), behind = Object.fromEntries(labels.map((label, i) => [label, ids[i]]));
  if (trial.kind === "abx") behind.X = ids[random(2)];
  const waiting = new Set(Object.keys(behind)), buttons = [];
  const heard = label => { waiting.delete(label); buttons.forEach(b => (b.disabled = waiting.size > 0)); };
  shown = Date.now();
  for (const choice of q.choices) {
    const b = element("button", { textContent: choice, disabled: true });
    b.onclick = () => {
      answers.push({ listener, number: at + 1, kind: trial.kind, text: trial.text, behind, answer: choice.split(" ")[0],
        seconds: (Date.now() - shown) / 1000 });
      at += 1;
      show();
    };
    buttons.push(b);
  }
  const stop = element("button", { textContent: "Stop here" });
  stop.onclick = finish;
  main.replaceChildren(
    element("progress", { max: order.length, value: at }),
    element("p", { className: "text", textContent: trial.text }),
    element("fieldset", {}, element("legend", { textContent: `Question ${at + 1} of ${order.length}` }),
      ...Object.entries(behind).map(([label, id]) => player(label, id, heard)),
      element("p", { textContent: q.ask }), ...buttons), stop);
}

function results() { // names of systems instead of sounds
  const names = JSON.parse(atob(key));
  return answers.map(a => {
    const behind = Object.fromEntries(Object.entries(a.behind).map(([label, id]) => [label, names[id]]));
    const row = { listener: a.listener, number: a.number, kind: a.kind, text: a.text, ...{ A: behind.A, B: behind.B ?? "",
      X: behind.X ?? "" }, answer: a.answer, seconds: a.seconds };
    if (a.kind === "ab") row.preferred = behind[a.answer] ?? "";
    if (a.kind === "abx") row.correct = a.behind[a.answer] === a.behind.X;
    return row;
  });
}

function save(name, kind, content) {
  const link = element("a", { href: URL.createObjectURL(new Blob([content], { type: kind })), download: name });
  link.click();
  URL.revokeObjectURL(link.href);
}

function csv(rows) {
  const columns = ["listener", "number", "kind", "text", "A", "B", "X", "answer", "preferred", "correct", "seconds"];
  const cell = value => `"${String(value ?? "").replaceAll('"', '""')}"`;
  return [columns, ...rows.map(row => columns.map(c => row[c]))].map(r => r.map(cell).join(",")).join("\r\n") + "\r\n";
}

function finish() {
  const json = element("button", { textContent: "Save as JSON", id: "json" });
  const table = element("button", { textContent: "Save as CSV", id: "csv" });
  json.onclick = () => save("listening.json", "application/json", JSON.stringify(results(), null, 1));
  table.onclick = () => save("listening.csv", "text/csv", csv(results()));
  main.replaceChildren(element("p", { textContent: `Thank you. ${answers.length} answers; please save them:` }), json, table);
}

start();
