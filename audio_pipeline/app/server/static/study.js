// The page of a study: who is here, what they say yes to, the questions, and the guided takes. All
// of it is kept in the study's folder by the server; the recorder is that of the ordinary page.

import { getQuestions, postAdvice, postInterview, read, unreachable } from "./api.js";
import { $, element, trouble } from "./dom.js";
import * as recordStep from "./record-step.js";
import { emergencyView } from "./result.js";
import { reasonNotToTwist, renderScreen } from "./screens.js";
import { clear, keepAnswers, save, state } from "./state.js";

const API = "api/v1/study";
const CONSENTS = [
  ["use", "Use: may we record you today, and let the computer listen?"],
  ["research", "Research: may we keep the recording and your answers, without your name?"],
  ["share", "Sharing: may other researchers get them as well, without your name?"],
];

let study = null;
let questionnaire = null;
let person = null;
let given = {};
let asked = []; // what was answered in this session, latest last: where Back goes
const setup = { device: "", distance_cm: 0, posture: "" };

function show(step) {
  trouble("");
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.dataset.step !== step;
  $("who").textContent = person ? `Code ${person.participant}, session ${person.session}` : "";
  const heading = document.querySelector(`section[data-step="${step}"] h1`);
  heading?.focus();
  window.scrollTo(0, 0);
}

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST" };
  if (body instanceof FormData) options.body = body;
  else if (body) Object.assign(options, { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } });
  const response = await fetch(`${API}${path}`, options).catch(() => {
    throw unreachable();
  });
  return (await read(response)).json();
}

// Does the work of a button; what goes wrong is said, and can be tried again.
function attempt(work) {
  const run = () => work().catch((error) => trouble(error.message, run));
  return run();
}

// --- who, and what they say yes to -------------------------------------------------------------

function begin(found) {
  clear();
  person = found;
  given = {};
  asked = [];
  state.region = study.region;
  save();
  if (person.consent?.research) return next();
  drawConsent();
  return show("consent");
}

function nextPerson() {
  person = null;
  clear();
  $("code").value = "";
  show("person");
}

// The text as its file has it: headings, lists and paragraphs, no other sign means anything.
function drawConsent() {
  const plain = (text) => text.replaceAll("**", "").replace(/\s+/g, " ").trim();
  const blocks = study.consent_text.trim().split(/\n\s*\n/);
  $("consent-text").replaceChildren(
    ...blocks.map((block) => {
      const heading = /^(#+)\s+(.*)$/s.exec(block);
      if (heading) return element("h2", {}, plain(heading[2]));
      const items = block.split(/\n(?=\d+\. |- )/).filter((line) => /^\s*(\d+\. |- )/.test(line));
      if (items.length) return element("ol", {}, ...items.map((item) => element("li", {}, plain(item.replace(/^\s*(\d+\. |- )/, "")))));
      return element("p", {}, plain(block));
    }),
  );
  $("consent-questions").replaceChildren(
    ...CONSENTS.map(([name, words]) =>
      element(
        "fieldset",
        {},
        element("legend", {}, words),
        ...["yes", "no"].map((value) =>
          element(
            "div",
            { class: "option" },
            element("input", { type: "radio", name, id: `${name}-${value}`, value }),
            element("label", { for: `${name}-${value}` }, value === "yes" ? "Yes" : "No"),
          ),
        ),
      ),
    ),
  );
}

async function saveConsent() {
  const chosen = Object.fromEntries(CONSENTS.map(([name]) => [name, document.querySelector(`input[name="${name}"]:checked`)?.value]));
  if (Object.values(chosen).includes(undefined)) throw new Error("Please answer all three questions.");
  const said = Object.fromEntries(Object.entries(chosen).map(([name, value]) => [name, value === "yes"]));
  person = await ask(`/people/${person.participant}/consent`, { version: study.consent_version, ...said });
  if (said.research) return next();
  $("use-only").hidden = !said.use;
  return show("nothing");
}

// --- questions ---------------------------------------------------------------------------------

const numberScreen = ({ name, label, minimum, maximum }) => ({
  title: label,
  questions: [{ id: name, type: "integer", minimum, maximum, options: [] }],
});

// Safety first, as on the ordinary page; then the study's own questions and outcome fields.
async function next() {
  const interview = await postInterview(state);
  if (interview.level_so_far === "emergency") return emergency();
  if (!interview.first_part_done && interview.screen) return question(interview.screen);
  for (const id of study.questions) {
    if (id in state.answers) continue;
    const found = questionnaire.questions.find((each) => each.id === id);
    return question({ title: found.text, lead: found.lead, why: found.why, questions: [found] });
  }
  for (const outcome of study.outcomes) if (!(outcome.name in given)) return question(numberScreen(outcome), given);
  const told = await keepTheAnswers();
  if (told.level === "emergency") return emergency();
  const why = reasonNotToTwist(questionnaire, interview.answers, told.may_twist);
  $("stop-why").textContent = why;
  return show(why ? "stop" : "setup");
}

async function keepTheAnswers() {
  const wanted = [...study.questions, ...study.outcomes.map(({ name }) => name)];
  const known = { ...state.answers, ...given };
  const answers = Object.fromEntries(wanted.map((name) => [name, known[name] ?? null]));
  asked = [];
  return ask(`/people/${person.participant}/answers`, { answers, safety: state.answers });
}

// own: where the study's own fields go; without it they are answers to our questions.
function question(screen, own = null) {
  const answer = (values) => {
    asked.push({ screen, own });
    if (own) Object.assign(own, values);
    else keepAnswers(values, screen.detail);
    attempt(next);
  };
  $("screen").replaceChildren(renderScreen(screen, own ?? state.answers, answer));
  $("ask-back").hidden = !asked.length;
  show("ask");
}

function back() {
  const before = asked.pop();
  if (!before) return;
  for (const { id } of before.screen.questions) delete (before.own ?? state.answers)[id];
  save();
  question(before.screen, before.own);
}

async function emergency() {
  const advice = await postAdvice(state.answers);
  const view = { title: advice.title, advice: advice.where_to_go, reasons: advice.why.map(({ text }) => text) };
  $("emergency").replaceChildren(emergencyView(view, questionnaire, back));
  show("emergency");
}

// --- takes -------------------------------------------------------------------------------------

function readSetup() {
  const distance = Number($("distance").value.trim().replace(",", "."));
  const device = $("device").value.trim();
  const wrong = !device || !($("distance").value.trim() && distance >= 0 && distance <= 500);
  $("setup-error").textContent = wrong ? "Say which phone or microphone, and how many centimetres." : "";
  if (wrong) return;
  Object.assign(setup, { device, distance_cm: distance, posture: $("posture").value });
  record();
}

function record() {
  show("record");
  recordStep.enter(questionnaire.protocol, trouble);
}

async function keepTake(recording) {
  const form = new FormData();
  form.append("take", JSON.stringify({ participant: person.participant, ...setup }));
  if (recording.capture) form.append("capture", JSON.stringify(recording.capture));
  form.append("audio", recording.blob, recording.name);
  trouble("Keeping the recording…");
  const kept = await ask("/takes", form);
  await recordStep.leave();
  person.session = kept.session;
  const { takes_per_session: planned, within_minutes: minutes } = study.protocol;
  const left = planned - kept.take;
  const more = left > 0 ? `${left} more within ${minutes} minutes.` : "That is all for this session. Thank you.";
  $("kept-text").textContent = `Take ${kept.take} of ${planned}, ${kept.duration.toFixed(0)} seconds. ${more}`;
  $("kept-warnings").replaceChildren(...kept.warnings.map((words) => element("li", {}, words)));
  $("kept-again").textContent = left > 0 ? "Record the next take" : "Record one more";
  $("kept-again").classList.toggle("primary", left > 0 || !kept.usable);
  show("kept");
}

// The ordinary page's recorder, without its ways around a guided recording.
async function borrowRecorder() {
  const page = new DOMParser().parseFromString(await (await fetch("use")).text(), "text/html");
  const section = document.querySelector('section[data-step="record"]');
  section.replaceChildren(...document.importNode(page.querySelector('section[data-step="record"]'), true).childNodes);
  $("how").replaceChildren(...document.importNode(page.getElementById("invitation"), true).childNodes);
  const apart = element("div", { hidden: true });
  apart.append($("record-file-label"), $("record-skip"), $("guided-option"), ...section.querySelectorAll("[data-back]"));
  section.append(apart);
  recordStep.setUp({ onUse: (recording) => attempt(() => keepTake(recording)), trouble });
}

function wire() {
  $("person-new").addEventListener("click", () => attempt(async () => begin(await ask("/people", null))));
  $("person-known").addEventListener("click", () => attempt(async () => begin(await ask(`/people/${encodeURIComponent($("code").value.trim().toLowerCase())}`))));
  $("consent-save").addEventListener("click", () => attempt(saveConsent));
  $("ask-back").addEventListener("click", back);
  $("setup-next").addEventListener("click", readSetup);
  $("kept-again").addEventListener("click", record);
  for (const button of document.querySelectorAll("[data-next]")) button.addEventListener("click", nextPerson);
}

attempt(async () => {
  study = await ask("");
  questionnaire = await getQuestions(study.region);
  await borrowRecorder();
  $("study-title").textContent = study.title;
  document.title = `${study.title} - Crepitus`;
  const option = (value) => element("option", { value }, value);
  $("devices").replaceChildren(...study.protocol.devices.map(option));
  $("posture").replaceChildren(...study.protocol.postures.map(option));
  wire();
  nextPerson();
});
