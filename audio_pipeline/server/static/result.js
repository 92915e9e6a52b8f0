// The result: what to do first, why, what to watch for; below it the recording; then saving it.

import { element, list } from "./dom.js";
import { postFhir, postReport } from "./api.js";
import { soundView } from "./sound-view.js";
import { levelSymbol } from "./symbols.js";

export const LEVELS = ["self_care", "routine", "soon", "same_day", "emergency"];

export const higher = (one, other) => (LEVELS.indexOf(one) > LEVELS.indexOf(other) ? one : other);

function sources(reason) {
  if (!reason.sources.length) return null;
  const names = reason.sources.map((source) => source.title).join("; ");
  return element("span", { class: "source" }, ` (${names})`);
}

function reasonList(reasons, withSources) {
  return element(
    "ul",
    {},
    ...reasons.map((reason) => element("li", {}, reason.text, withSources ? sources(reason) : null)),
  );
}

function callButton(texts) {
  return element(
    "p",
    { class: "numbers" },
    element("a", { href: `tel:${texts.emergency_number}` }, `Call ${texts.emergency_number}`),
  );
}

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
    element("div", { class: "body" }, element("p", {}, "Who: ", element("strong", {}, level.who), "."), element("p", {}, "When: ", element("strong", {}, level.when), ".")),
  );
}

// Shown at once when an answer says so: nothing else is on the screen.
export function emergencyView(recommendation, texts, onChange) {
  const card = verdict(recommendation, texts);
  const top = recommendation.reasons.filter((reason) => reason.level === "emergency");
  card.querySelector(".body").append(
    callButton(texts),
    element("h2", {}, "Why"),
    reasonList(top, false),
  );
  return element(
    "div",
    { role: "region", "aria-label": "Emergency" },
    card,
    element("p", {}, texts.disclaimer),
    element(
      "p",
      { class: "note" },
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
    recommendation.incomplete
      ? element(
          "p",
          { class: "notice" },
          "Some safety questions have no clear answer, so this advice is careful. An answer left out never counts as “no”.",
        )
      : null,
    element("details", {}, element("summary", {}, `${missing.length} questions without an answer`), list("ul", missing)),
    element("div", { class: "buttons" }, element("button", { type: "button", onclick: onChange }, "Answer more questions")),
  );
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
  const sound = analysis?.recordings[0].finding;
  const finding = sound && { finding: sound.label, confidence: sound.confidence };
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
      button("Save for clinics (FHIR)", async () => download(await postFhir(answers, finding), "crepitus-fhir.json")),
    ),
  );
}

async function soundSection(analysis, recording) {
  const [heard] = analysis.recordings;
  const view = await soundView(heard, recording.blob);
  const warnings = heard.quality.warnings.map((warning) => warning.text);
  const node = section(
    "What the recording holds",
    ...heard.finding.reasons.map((reason) => element("p", {}, reason)),
    warnings.length
      ? element("div", { class: "notice" }, element("p", {}, element("strong", {}, "About this recording")), list("ul", warnings))
      : null,
    view.node,
  );
  return { node, draw: view.draw, stop: view.stop };
}

// Fills `target`; the recording is optional. Returns a function that stops what plays.
export async function showResult(target, given) {
  const { recommendation, analysis, recording, questionnaire, highest, onAnswerMore, answeredAt } = given;
  const texts = questionnaire;
  const sound = analysis && (await soundSection(analysis, recording));
  const top = recommendation.reasons.filter((reason) => reason.level === recommendation.level);
  const also = recommendation.reasons.filter((reason) => reason.level !== recommendation.level);
  const card = verdict(recommendation, texts);
  if (recommendation.level === "emergency") card.querySelector(".body").prepend(callButton(texts));
  const lowered = LEVELS.indexOf(highest) > LEVELS.indexOf(recommendation.level);
  const parts = [
    card,
    lowered
      ? element(
          "p",
          { class: "notice" },
          `Answers you gave before and then changed led to more urgent advice: “${texts.levels[highest].title}”. If you are in doubt, follow that.`,
        )
      : null,
    section("Why", top.length ? reasonList(top, true) : element("p", {}, texts.no_reason)),
    also.length
      ? element("details", {}, element("summary", {}, "Also, less urgent"), reasonList(also, true))
      : null,
    section(
      "What to watch for",
      element("div", {}, list("ul", recommendation.safety_net.map((item) => item.text))),
    ),
    recommendation.level !== "emergency" && recommendation.advice.length
      ? section("What may help", list("ul", recommendation.advice.map((item) => item.text)))
      : null,
    unanswered(recommendation, questionnaire.questions, onAnswerMore),
    sound ? sound.node : section("The recording", element("p", {}, "No recording was used. Your answers alone gave this advice.")),
    saving(given),
    element("p", { class: "note" }, `${texts.disclaimer} Answers given on ${answeredAt}. Rules ${recommendation.rules_version}.`),
  ];
  target.replaceChildren(...parts.filter(Boolean));
  sound?.draw();
  window.onresize = sound ? () => sound.draw() : null;
  return sound?.stop ?? (() => {});
}
