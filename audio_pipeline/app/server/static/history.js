// What a person chose to keep: a list to look at, compare two takes of one session, and delete.
// It never says better or worse: recordings of different days cannot be compared.

import { compareKept, deleteKept, getHistory, getKeptSound, keepVisit, postExport } from "./api.js";
import { $, download, element, list } from "./dom.js";
import { save, state } from "./state.js";
import { locale, say } from "./words.js";

const SESSION_MINUTES = 20; // as comparison.py

let enabled = false;

// Whether this computer keeps anything; asked once, when the page opens.
export async function startHistory() {
  enabled = await getHistory().then((overview) => overview.enabled, () => false);
  $("kept").hidden = !enabled;
}

const moment = (entry) => new Date(entry.made).toLocaleString(locale, { dateStyle: "medium", timeStyle: "short" });
const day = (entry) => entry.made.slice(0, 10);
const minutes = (first, second) => Math.abs(new Date(second.made) - new Date(first.made)) / 60000;

function button(words, work, of = "", attributes = {}) {
  const node = element("button", { type: "button", ...attributes }, words);
  if (of) node.append(element("span", { class: "sr-only" }, `: ${of}`));
  node.addEventListener("click", () => work(node));
  return node;
}

// On the result page: keep this visit, with or without its sound. Null where nothing is kept.
export function keepPart({ recording, answers, trouble, onKept }) {
  if (!enabled || !recording) return null;
  const sound = element("input", { type: "checkbox", id: "keep-sound" });
  const done = () => [element("p", { role: "status" }, say("keep.done")), button(say("history.open"), onKept)];
  const keep = async (pressed) => {
    pressed.disabled = true;
    try {
      await keepVisit(recording, answers, sound.checked);
      state.kept = true;
      save();
      part.replaceChildren(element("h2", {}, say("keep.title")), ...done());
    } catch (error) {
      trouble(error.message);
      pressed.disabled = false;
    }
  };
  const offer = [
    element("p", {}, say("keep.note")),
    element("div", { class: "option" }, sound, element("label", { for: "keep-sound" }, say("keep.sound"))),
    element("div", { class: "buttons" }, button(say("keep.button"), keep, "", { id: "keep-visit" })),
  ];
  const part = element("div", { class: "part keep" }, element("h2", {}, say("keep.title")), ...(state.kept ? done() : offer));
  return part;
}

function sure(title) {
  const dialog = $("delete-dialog");
  $("delete-title").textContent = title;
  dialog.returnValue = "";
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
    $("delete-no").onclick = () => dialog.close("no");
    $("delete-yes").onclick = () => dialog.close("yes");
    dialog.showModal();
  });
}

// answers: question to value; words(question, value) gives { title, words }.
function answersPart(entry, before, words) {
  if (!entry.answers) return null;
  const changed = Object.entries(entry.answers).filter(([id, value]) => before?.answers?.[id] !== value);
  if (!changed.length) return element("p", { class: "note" }, say("history.same"));
  const rows = changed.map(([id, value]) => words(id, value));
  return element("details", {}, element("summary", {}, say(before?.answers ? "history.changed" : "history.answers")), list("ul", rows));
}

async function compared(entry, before) {
  const { differences, notes } = await compareKept(before.id, entry.id);
  const apart = Math.max(1, Math.round(minutes(before, entry)));
  return element(
    "div",
    { class: "notice", role: "status" },
    element("h3", {}, say("history.compare_title", { minutes: apart })),
    ...differences.map(({ text }) => element("p", {}, text)),
    list("ul", notes, { class: "note" }),
  );
}

function entryView(entry, before, { levelTitles, words, trouble, again }) {
  const when = moment(entry);
  const more = element("div", {});
  const attempt = (work) => async (pressed) => {
    pressed.disabled = true;
    try {
      await work(pressed);
      trouble("");
    } catch (error) {
      trouble(error.message);
    }
    pressed.disabled = false;
  };
  const listen = attempt(async (pressed) => {
    const audio = element("audio", { controls: true, "aria-label": when });
    audio.src = URL.createObjectURL(await getKeptSound(entry.id));
    pressed.replaceWith(audio);
    audio.focus();
  });
  const compare = attempt(async () => more.replaceChildren(await compared(entry, before)));
  const remove = attempt(async () => {
    if (!(await sure(say("history.delete_this")))) return;
    await deleteKept(entry.id);
    await again();
  });
  const oneSession = before && before.model === entry.model && minutes(before, entry) <= SESSION_MINUTES;
  return element(
    "li",
    {},
    element("h2", {}, when),
    element("p", {}, entry.text, entry.level ? ` ${say("history.advice_then", { title: levelTitles[entry.level] })}` : ""),
    answersPart(entry, before, words),
    element(
      "div",
      { class: "buttons" },
      entry.take ? button(say("history.listen"), listen, when) : null,
      oneSession ? button(say("history.compare"), compare, when) : null,
      button(say("history.delete"), remove, when),
    ),
    more,
  );
}

function weeksPart(weeks) {
  const heads = ["week_from", "recordings", "pops", "gratings"].map((key) => element("th", { scope: "col" }, say(`history.${key}`)));
  const monday = (week) => new Date(`${week.monday}T12:00`).toLocaleDateString(locale, { dateStyle: "medium" });
  const rows = weeks.map((week) =>
    element("tr", {}, element("th", { scope: "row" }, monday(week)), ...[week.takes, week.pops, week.gratings].map((count) => element("td", {}, String(count)))),
  );
  return element(
    "div",
    {},
    element("h2", {}, say("history.weeks")),
    element("table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows)),
    element("p", { class: "note" }, say("history.weeks_note")),
  );
}

function doctorPart(entries) {
  const date = (key, value) => {
    const input = element("input", { type: "date", id: `doctor-${key}`, value });
    return { input, node: element("p", { class: "field" }, element("label", { for: input.id }, say(`history.${key}`)), input) };
  };
  const from = date("from", day(entries[0]));
  const to = date("to", day(entries.at(-1)));
  const link = element("a", { class: "button", id: "doctor-open", target: "_blank" }, say("history.doctor_open"));
  const point = () => {
    link.href = `api/v1/history/page?${new URLSearchParams({ from: from.input.value, to: to.input.value })}`;
  };
  from.input.onchange = point;
  to.input.onchange = point;
  point();
  return element("div", {}, element("h2", {}, say("history.doctor")), from.node, to.node, element("div", { class: "buttons" }, link));
}

function copyPart(trouble) {
  const phrase = element("input", { type: "password", id: "passphrase", autocomplete: "new-password" });
  const copy = async (pressed) => {
    pressed.disabled = true;
    try {
      download(await postExport(phrase.value), "crepitus-history");
      trouble("");
    } catch (error) {
      trouble(error.message);
    }
    pressed.disabled = false;
  };
  return element(
    "details",
    {},
    element("summary", {}, say("history.copy")),
    element("p", {}, say("history.copy_note")),
    element("p", { class: "field" }, element("label", { for: phrase.id }, say("history.passphrase")), phrase),
    element("div", { class: "buttons" }, button(say("history.copy_save"), copy)),
  );
}

// Fills `target`; words(question, value) puts an answer into words.
export async function showHistory(target, { levelTitles, words, trouble }) {
  const again = () => showHistory(target, { levelTitles, words, trouble });
  const { entries, weeks } = await getHistory();
  if (!entries.length) {
    target.replaceChildren(element("p", {}, say("history.none")));
    return;
  }
  const shown = entries.map((entry, index) => entryView(entry, entries[index - 1], { levelTitles, words, trouble, again }));
  const all = button(say("history.delete_all"), async () => {
    if (!(await sure(say("history.delete_all_sure")))) return;
    await deleteKept().catch((error) => trouble(error.message));
    await again();
  });
  target.replaceChildren(
    element("p", {}, say("history.lead")),
    element("ol", { class: "visits" }, ...shown.reverse()),
    weeksPart(weeks),
    doctorPart(entries),
    copyPart(trouble),
    element("div", { class: "buttons" }, all),
  );
}
