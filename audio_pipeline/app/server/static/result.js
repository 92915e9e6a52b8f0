// The result: what to do first, why, what to watch for; below it the recording; then saving it.

import { postFhir, postReport } from "./api.js";
import { download, element, list } from "./dom.js";
import { keepPart } from "./history.js";
import { processingWords } from "./record-step.js";
import { soundView } from "./sound-view.js";
import { levelSymbol } from "./symbols.js";
import { say } from "./words.js";

const LEVELS = ["self_care", "routine", "soon", "same_day", "emergency"];

export const isHigher = (level, other) => LEVELS.indexOf(level) > LEVELS.indexOf(other);

function section(title, ...children) {
  return element("div", { class: "part" }, title ? element("h2", {}, title) : null, ...children);
}

function verdict(level, title, ...body) {
  return element(
    "div",
    { class: `verdict level-${level}` },
    element("header", {}, levelSymbol(level), element("h1", { id: "result-title", tabindex: "-1" }, title)),
    element("div", { class: "body" }, ...body),
  );
}

function reasonList(reasons) {
  return element(
    "ul",
    {},
    ...reasons.map(({ text, keys }) =>
      element("li", {}, text, keys.length ? element("span", { class: "source" }, ` [${keys.join(", ")}]`) : null),
    ),
  );
}

function listing(title, { opening, items }, attributes = {}) {
  if (!items.length) return null;
  const body = element("div", attributes, opening ? element("p", {}, opening) : null, list("ul", items));
  return section(title, body);
}

function sourceList(sources, words) {
  if (!sources.length) return null;
  const items = sources.map(({ key, title, url }) =>
    element("span", {}, `${key}: `, url ? element("a", { href: url, rel: "noreferrer", target: "_blank" }, title) : title),
  );
  return element("details", {}, element("summary", {}, words), list("ul", items));
}

// Shown at once when an answer says so: nothing else is on the screen.
export function emergencyView({ title, advice, reasons }, questionnaire, onChange) {
  const { number } = questionnaire.emergency;
  const card = verdict(
    "emergency",
    title,
    ...advice.map((text) => element("p", {}, text)),
    element("p", { class: "numbers" }, element("a", { href: `tel:${number}` }, say("result.call", { number }))),
    element("h2", {}, say("result.why")),
    list("ul", reasons),
  );
  return element(
    "div",
    { role: "region", "aria-label": say("result.emergency") },
    card,
    element("p", {}, questionnaire.limits),
    element(
      "p",
      { class: "note" },
      element("button", { type: "button", class: "quiet", onclick: () => window.print() }, say("result.print")),
      element("button", { type: "button", class: "quiet", onclick: onChange }, say("result.wrong_answer")),
    ),
  );
}

function unanswered(topics, onAnswerMore) {
  if (!topics.length) return null;
  const count = say(topics.length === 1 ? "result.unanswered_one" : "result.unanswered_many", { count: topics.length });
  return section(
    say("result.unanswered"),
    element("details", {}, element("summary", {}, count), list("ul", topics)),
    element("div", { class: "buttons" }, element("button", { type: "button", onclick: onAnswerMore }, say("result.answer_more"))),
  );
}

function saveButton(words, work, trouble) {
  const button = element("button", { type: "button" }, words);
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await work();
      trouble("");
    } catch (error) {
      trouble(error.message);
    } finally {
      button.disabled = false;
    }
  });
  return button;
}

function saving({ recommendation, analysis, recording, answers, trouble }) {
  // The document of `analyze --json`, with the recommendation where it would stand there.
  const whole = analysis ? { ...analysis, recordings: [{ ...analysis.recordings[0], recommendation }] } : recommendation;
  const json = () => new Blob([JSON.stringify(whole, null, 2)], { type: "application/json" });
  const button = (words, work) => saveButton(words, work, trouble);
  const embed = element("input", { type: "checkbox", id: "embed" });
  const pageName = "crepitus.html";
  const keep = section(
    say("save.title"),
    element("p", {}, say("save.note")),
    recording
      ? element("div", { class: "option" }, embed, element("label", { for: "embed" }, say("save.embed")))
      : null,
    element(
      "div",
      { class: "buttons" },
      button(say("save.print"), () => window.print()),
      recording
        ? button(say("save.page"), async () => download(await postReport(recording, answers, embed.checked), pageName))
        : null,
      recording ? button(say("save.recording"), () => download(recording.blob, recording.name)) : null,
      button(say("save.json"), () => download(json(), "crepitus.json")),
      button(say("save.fhir"), async () => download(await postFhir(answers), "crepitus-fhir.json")),
    ),
  );
  keep.classList.add("keep");
  return keep;
}

// Why a back makes this sound, each item with its sources folded below all of them.
export function explanationView(items) {
  if (!items?.length) return null;
  const sources = new Map(items.flatMap((item) => item.sources).map((source) => [source.key, source]));
  return element("div", { class: "explanation" }, ...items.map(({ text }) => element("p", {}, text)), sourceList([...sources.values()], say("result.explanation_sources")));
}

const warningList = (heard) => heard.quality?.warnings.map((warning) => warning.text) ?? [];

// After the take, before any more questions: can it be used, and what was heard?
export async function heardView(heard, recording) {
  const view = await soundView(heard, recording.blob);
  const warnings = [processingWords(recording.capture), ...warningList(heard)].filter(Boolean);
  const usable = heard.quality?.usable;
  const node = element(
    "div",
    {},
    element("p", { class: usable && !warnings.length ? "lead" : "notice", id: "verdict" }, say(usable ? "heard.usable" : "heard.unusable")),
    warnings.length ? list("ul", warnings) : null,
    list("ul", heard.finding?.reasons ?? []),
    view.node,
  );
  return { ...view, node };
}

async function soundSection(heard, { recording, advice, onRecordAgain }) {
  const view = await soundView(heard, recording.blob);
  const warnings = warningList(heard);
  const again = element("button", { type: "button", onclick: onRecordAgain }, say("record.again"));
  const node = section(
    say("result.heard"),
    element("p", {}, advice.sound),
    list("ul", heard.finding.reasons),
    warnings.length ? element("div", { class: "notice" }, element("p", {}, element("strong", {}, say("result.about_recording"))), list("ul", warnings), again) : null,
    view.node,
  );
  return { ...view, node };
}

// What a doctor wants to see: every answer as it was given. Folded on the screen, open on paper.
const answersGiven = (rows) =>
  element("details", {}, element("summary", {}, say("result.answers")), list("ul", rows.map(({ title, words }) => `${title} ${words}`)));

// Fills `target`; the recording is optional. Returns a function that stops what plays.
export async function showResult(target, given) {
  const { advice, analysis, recommendation, questionnaire, highest, rows, onAnswerMore, answeredAt } = given;
  const sound = analysis && given.recording && (await soundSection(analysis.recordings[0], given));
  const explanation = explanationView(recommendation.explanation);
  const parts = [
    verdict(
      advice.level,
      advice.title,
      element("p", {}, `${say("result.who")} `, element("strong", {}, advice.who)),
      element("p", {}, `${say("result.when")} `, element("strong", {}, advice.when)),
      ...advice.where_to_go.map((text) => element("p", {}, text)),
    ),
    isHigher(highest, advice.level)
      ? element(
          "p",
          { class: "notice" },
          say("result.higher", { title: questionnaire.level_titles[highest] }),
        )
      : null,
    sound ? sound.node : section(say("result.heard"), element("p", {}, advice.sound)),
    explanation && section(say("result.explanation"), explanation),
    section(say("result.reasons"), advice.why.length ? reasonList(advice.why) : element("p", {}, advice.no_reason)),
    listing(say("result.unknown"), advice.urgent, { class: "notice" }),
    listing(advice.urgent.items.length ? null : say("result.unknown"), advice.unknown),
    listing(say("result.check"), { items: advice.check }),
    listing(say("result.advice"), { items: advice.advice }),
    listing(say("result.watch"), advice.watch),
    listing(null, advice.watch_today),
    listing(null, advice.watch_later),
    unanswered(advice.unanswered, onAnswerMore),
    advice.also.length ? element("details", {}, element("summary", {}, say("result.other_reasons")), reasonList(advice.also)) : null,
    sourceList(advice.sources, say("result.sources")),
    answersGiven(rows),
    keepPart(given),
    saving(given),
    element("p", { class: "note" }, `${advice.limits} ${say("result.answered", { time: answeredAt })} ${advice.rules}`),
  ];
  target.replaceChildren(...parts.filter(Boolean));
  sound?.draw();
  window.onresize = sound ? () => sound.draw() : null;
  return sound?.stop ?? (() => {});
}
