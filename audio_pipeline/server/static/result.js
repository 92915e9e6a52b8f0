// The result: what to do first, why, what to watch for; below it the recording; then saving it.

import { element, list } from "./dom.js";
import { postReport } from "./api.js";
import { soundView } from "./sound-view.js";
import { levelSymbol } from "./symbols.js";

const LEVELS = ["self_care", "routine", "soon", "same_day", "emergency"];

const isGate = (reason) => reason.rule.startsWith("G:");

function reasonList(reasons) {
  return element(
    "ul",
    {},
    ...reasons.map((reason) => {
      const keys = reason.sources.map((source) => source.key).join(", ");
      const from = keys ? element("span", { class: "source" }, ` [${keys}]`) : null;
      return element("li", {}, reason.text, from);
    }),
  );
}

// What nobody knows is one more reason, told once.
function addUnknown(items, gates) {
  if (!gates.length) return;
  const many = gates.length === 1 ? "One safety question has" : `${gates.length} safety questions have`;
  const words = `${many} no clear answer. So we cannot rule out a problem there. An answer left out never counts as “no”.`;
  items.append(element("li", {}, words));
}

function sourceList(reasons) {
  const sources = new Map(reasons.flatMap((reason) => reason.sources).map((source) => [source.key, source]));
  if (!sources.size) return null;
  const items = [...sources.values()].map((source) =>
    element(
      "span",
      {},
      `${source.key}: `,
      source.url.startsWith("https://")
        ? element("a", { href: source.url, rel: "noreferrer", target: "_blank" }, source.title)
        : source.title,
    ),
  );
  return element("details", {}, element("summary", {}, "Where the reasons come from"), list("ul", items));
}

function why(recommendation, texts) {
  const said = recommendation.reasons.filter((reason) => !isGate(reason));
  const top = said.filter((reason) => reason.level === recommendation.level);
  const also = said.filter((reason) => reason.level !== recommendation.level);
  const gates = recommendation.reasons.filter(isGate);
  const items = reasonList(top);
  addUnknown(items, gates);
  return section(
    "Why",
    items.children.length ? items : element("p", {}, texts.no_reason),
    also.length ? element("details", {}, element("summary", {}, "Also, less urgent"), reasonList(also)) : null,
    sourceList(said),
  );
}

function callButton(texts) {
  return element(
    "p",
    { class: "numbers" },
    element("a", { href: `tel:${texts.emergency_number}` }, `Call ${texts.emergency_number}`),
  );
}

export const atLeast = (level, other) => LEVELS.indexOf(level) >= LEVELS.indexOf(other);

function verdict(recommendation, texts) {
  const level = texts.levels[recommendation.level];
  return element(
    "div",
    { class: `verdict level-${recommendation.level}` },
    element(
      "header",
      {},
      levelSymbol(recommendation.level),
      element("h1", { id: "result-title", tabindex: "-1" }, level.title),
    ),
    element("div", { class: "body" }, element("p", {}, "Who to see: ", element("strong", {}, level.who), "."), element("p", {}, "By when: ", element("strong", {}, level.when), ".")),
  );
}

// Shown at once when an answer says so: nothing else is on the screen.
export function emergencyView(recommendation, texts, onChange) {
  const card = verdict(recommendation, texts);
  const top = recommendation.reasons.filter((reason) => reason.level === "emergency");
  card.querySelector(".body").replaceChildren(
    element("p", {}, texts.emergency_advice),
    callButton(texts),
    element("h2", {}, "Why"),
    reasonList(top),
  );
  return element(
    "div",
    { role: "region", "aria-label": "Emergency" },
    card,
    element("p", {}, texts.disclaimer),
    element(
      "p",
      { class: "note" },
      element("button", { type: "button", class: "quiet", onclick: () => window.print() }, "Print this page"),
      element("button", { type: "button", class: "quiet", onclick: onChange }, "I gave a wrong answer: change it"),
    ),
  );
}

function section(title, ...children) {
  return element("section", {}, element("h2", {}, title), ...children);
}

function unanswered(recommendation, questions, onChange) {
  if (!recommendation.unanswered.length) return null;
  const texts = Object.fromEntries(questions.map((question) => [question.id, question.text]));
  const missing = recommendation.unanswered.map((id) => texts[id] ?? id);
  return section(
    "What you did not answer",
    element("details", {}, element("summary", {}, `${missing.length} questions without an answer`), list("ul", missing)),
    element("div", { class: "buttons" }, element("button", { type: "button", onclick: onChange }, "Answer more questions")),
  );
}

// Said once, at the end of the page.
const LIMITS = "N-LIMITS";

const watchFor = (recommendation) =>
  recommendation.safety_net.filter((item) => item.id !== LIMITS).map((item) => item.text);

function contradictions(answers, texts) {
  const both = texts.disagreements.filter((entry) =>
    Object.entries(entry.answers).every(([id, values]) => values.includes(answers[id])),
  );
  return both.length ? section("Please check", list("ul", both.map((entry) => entry.text))) : null;
}

function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function saving({ recommendation, analysis, recording, answers, trouble }) {
  const button = (words, work) =>
    element(
      "button",
      {
        type: "button",
        onclick: async (event) => {
          const pressed = event.currentTarget;
          pressed.disabled = true;
          try {
            await work();
            trouble("");
          } catch (error) {
            trouble(error.message);
          } finally {
            pressed.disabled = false;
          }
        },
      },
      words,
    );
  const json = (value) => new Blob([JSON.stringify(value, null, 2)], { type: "application/json" });
  return section(
    "Keep this result",
    element("p", {}, "Nothing is kept unless you save it. A saved page is something to show a doctor or a physiotherapist."),
    element(
      "div",
      { class: "buttons" },
      button("Print or save as PDF", () => window.print()),
      recording ? button("Save as a page", async () => download(await postReport(recording, answers), "crepitus.html")) : null,
      recording ? button("Save the recording", () => download(recording.blob, recording.name)) : null,
      button("Save for programs (JSON)", () => download(json(analysis ?? recommendation), "crepitus.json")),
    ),
  );
}

// What the sound means for the advice; a grinding sound that is not sure changes nothing.
function soundNote({ label, confidence }, texts) {
  const notes = texts.sound_notes;
  const unsure = ["grating", "mixed"].includes(label) && confidence < texts.sure_grating;
  return unsure ? notes.unsure_grating : (notes[label] ?? notes.other);
}

async function soundSection(analysis, recording, texts) {
  const [heard] = analysis.recordings;
  const view = await soundView(heard, recording.blob);
  const warnings = heard.quality.warnings.map((warning) => warning.text);
  const node = section(
    "What the recording holds",
    element("p", {}, soundNote(heard.finding, texts)),
    list("ul", heard.finding.reasons),
    warnings.length
      ? element("div", { class: "notice" }, element("p", {}, element("strong", {}, "About this recording")), list("ul", warnings))
      : null,
    view.node,
  );
  return { node, draw: view.draw, stop: view.stop };
}

// Fills `target`; the recording is optional. Returns a function that stops what plays.
export async function showResult(target, given) {
  const { recommendation, analysis, recording, answers, questionnaire, highest, onAnswerMore, answeredAt } = given;
  const texts = questionnaire;
  const sound = analysis && (await soundSection(analysis, recording, texts));
  const card = verdict(recommendation, texts);
  const lowered = !atLeast(recommendation.level, highest);
  const parts = [
    card,
    lowered
      ? element(
          "p",
          { class: "notice" },
          `An answer that you gave first and then changed leads to more urgent advice: “${texts.levels[highest].title}”. If you are in doubt, follow that, and show this to whoever you see.`,
        )
      : null,
    why(recommendation, texts),
    contradictions(answers, texts),
    section("What to watch for", list("ul", watchFor(recommendation))),
    recommendation.advice.length
      ? section("What may help", list("ul", recommendation.advice.map((item) => item.text)))
      : null,
    unanswered(recommendation, questionnaire.questions, onAnswerMore),
    sound ? sound.node : section("The recording", element("p", {}, texts.sound_notes.none)),
    saving(given),
    element("p", { class: "note" }, `${texts.disclaimer} Answers given on ${answeredAt}. Rules ${recommendation.rules_version}.`),
  ];
  target.replaceChildren(...parts.filter(Boolean));
  sound?.draw();
  window.onresize = sound ? () => sound.draw() : null;
  return sound?.stop ?? (() => {});
}
