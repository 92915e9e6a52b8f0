// The page: one step at a time. Emergency questions come before any invitation to twist.

import { getQuestions, postAdvice, postAnalysis, postTriage } from "./api.js";
import { $, element } from "./dom.js";
import { renderQuestion } from "./questions.js";
import * as recordStep from "./record-step.js";
import { emergencyView, isHigher, showResult } from "./result.js";
import { clear, save, setAnswer, state } from "./state.js";

const STEPS = ["first", "how", "record", "more", "result"];
const TITLE = "Crepitus";

let questionnaire = null;
let recording = null;
let current = null;
let stopSound = () => {};

// Trouble: one line at the top, read out at once, with a way to go on.
function trouble(words, retry = null) {
  $("trouble").hidden = !words;
  $("trouble-text").textContent = words;
  $("trouble-retry").hidden = !retry;
  $("trouble-retry").onclick = retry;
  if (words) $("trouble").scrollIntoView({ block: "nearest" });
}

const firstQuestions = () => questionnaire.questions.filter((question) => question.section === "emergency");
const otherQuestions = () => questionnaire.questions.filter((question) => question.section !== "emergency");

function showStep(step, focus = true) {
  stopSound();
  if (state.step === "record" && step !== "record") recordStep.leave();
  trouble("");
  state.step = step;
  save();
  for (const section of document.querySelectorAll("main > section")) {
    section.hidden = section.dataset.step !== step;
  }
  const position = STEPS.indexOf(step);
  $("top").querySelector("nav").hidden = false;
  for (const item of $("steps").children) {
    const place = STEPS.indexOf(item.dataset.step);
    item.classList.toggle("done", place < position);
    if (place === position) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  }
  if (step === "how") showInvitation();
  if (step === "record") recordStep.enter(questionnaire.protocol, trouble);
  if (step === "more") showMore();
  if (step === "result") showResultStep();
  const heading = document.querySelector(`section[data-step="${step}"] h1`);
  if (heading && focus) {
    document.title = `${heading.textContent} - ${TITLE}`;
    heading.focus();
    window.scrollTo(0, 0);
  }
}

// --- answers -----------------------------------------------------------------------------------

function noteLevel(level) {
  if (isHigher(level, state.highest)) state.highest = level;
  save();
}

async function answered(question, value) {
  setAnswer(question.id, value);
  if (question.section === "emergency") showMissing();
  if (value === null) return;
  // The questionnaire itself says which single answers are an emergency: no network needed.
  const reason = question.emergency_options?.[value];
  if (reason) {
    const { title, advice } = questionnaire.emergency;
    showEmergency({ title, advice: [advice], reasons: [reason] });
  }
  try {
    const advice = await postAdvice(state.answers);
    if (state.answers[question.id] !== value) return;
    noteLevel(advice.level_so_far);
    // What was not asked yet must not send anyone away in the middle.
    if (advice.level_so_far === "emergency") showEmergency(asEmergency(advice));
  } catch {
    // The whole set of answers is sent again for the result, where trouble is shown.
  }
}

const asEmergency = (advice) => ({
  title: advice.title,
  advice: advice.where_to_go,
  reasons: advice.why.length ? advice.why.map((reason) => reason.text) : [advice.no_reason],
});

function showEmergency(emergency) {
  noteLevel("emergency");
  recordStep.leave();
  stopSound();
  state.step = "emergency";
  save();
  trouble("");
  for (const section of document.querySelectorAll("main > section")) section.hidden = true;
  $("top").querySelector("nav").hidden = true;
  const view = emergencyView(emergency, questionnaire, () => {
    $("emergency").remove();
    showStep("first");
  });
  const section = element("section", { id: "emergency", "aria-labelledby": "result-title" }, view);
  $("emergency")?.remove();
  $("result").replaceChildren();
  $("main").append(section);
  const heading = section.querySelector("h1");
  document.title = `${heading.textContent} - ${TITLE}`;
  heading.focus();
  window.scrollTo(0, 0);
}

function renderQuestions() {
  const field = (question) =>
    renderQuestion(question, state.answers[question.id], (_, value) => answered(question, value));
  $("first-questions").replaceChildren(...firstQuestions().map(field));
  const parts = questionnaire.sections
    .filter((section) => section.id !== "emergency")
    .flatMap((section) => [
      element("h2", {}, section.title),
      ...otherQuestions().filter((question) => question.section === section.id).map(field),
    ]);
  $("more-questions").replaceChildren(...parts);
}

const missingFirst = () => firstQuestions().filter((question) => !(question.id in state.answers));

function showMissing() {
  const count = missingFirst().length;
  const all = firstQuestions().length;
  $("first-missing").textContent =
    count && count < all ? `${count} of ${all} questions have no answer yet. You can go on, but then we will not ask you to twist.` : "";
}

// --- steps -------------------------------------------------------------------------------------

// Only who answered every safety question, and in a way that rules its worry out, is invited.
async function reasonNotToTwist() {
  if (missingFirst().length) return "You left out some of the safety questions.";
  const open = firstQuestions().some((question) => !question.clear_options.includes(state.answers[question.id]));
  const allowed = !open && (await postAdvice(state.answers).catch(() => ({ may_twist: true }))).may_twist;
  return allowed ? "" : "One of your answers should be looked at first.";
}

async function showInvitation() {
  const why = await reasonNotToTwist();
  $("no-twist").hidden = !why;
  $("no-twist-why").textContent = why;
  $("invitation").hidden = Boolean(why);
  $("how-record").hidden = Boolean(why);
  $("how-skip").textContent = why ? "Go on to the questions" : "Skip the recording";
  $("how-skip").classList.toggle("primary", Boolean(why));
}

function showMore() {
  $("more-recording").textContent = recording
    ? `Your recording is ready: ${recording.name}. It is not sent before you ask for the result.`
    : "";
  $("more-status").textContent = "";
}

function useRecording(chosen) {
  recording = chosen;
  showStep("more");
}

function chooseFile(event) {
  const [file] = event.target.files;
  if (file) useRecording({ blob: file, name: file.name, capture: null });
  event.target.value = "";
}

function skipRecording() {
  recording = null;
  showStep("more");
}

async function assess() {
  const { answers } = state;
  if (!recording) {
    const [recommendation, advice] = await Promise.all([postTriage(answers), postAdvice(answers)]);
    return { recommendation, advice, analysis: null };
  }
  const analysis = await postAnalysis(recording, answers, (words) => {
    $("more-status").textContent = words;
  });
  const { recommendation, finding } = analysis.recordings[0];
  return { recommendation, advice: await postAdvice(answers, finding), analysis };
}

async function finishQuestions() {
  trouble("");
  $("more-next").disabled = true;
  $("more-status").textContent = recording ? "Listening to your recording…" : "Working…";
  try {
    current = await assess();
    noteLevel(current.advice.level_so_far);
    if (current.advice.level === "emergency") showEmergency(asEmergency(current.advice));
    else showStep("result");
  } catch (error) {
    trouble(error.message, finishQuestions);
  } finally {
    $("more-next").disabled = false;
    $("more-status").textContent = "";
  }
}

async function showResultStep() {
  stopSound = await showResult($("result"), {
    ...current,
    recording,
    questionnaire,
    answers: state.answers,
    highest: state.highest,
    answeredAt: new Date().toLocaleString(),
    onAnswerMore: () => showStep(missingFirst().length ? "first" : "more"),
    trouble,
  });
  const heading = $("result").querySelector("h1");
  document.title = `${heading.textContent} - ${TITLE}`;
  heading.focus();
  window.scrollTo(0, 0);
}

function restart() {
  clear();
  recording = null;
  current = null;
  $("emergency")?.remove();
  $("result").replaceChildren();
  renderQuestions();
  showMissing();
  showStep("first");
}

// --- start -------------------------------------------------------------------------------------

function wire() {
  recordStep.setUp({ onUse: useRecording, trouble });
  $("first-next").addEventListener("click", () => showStep("how"));
  $("how-record").addEventListener("click", () => showStep("record"));
  $("how-skip").addEventListener("click", skipRecording);
  $("record-skip").addEventListener("click", skipRecording);
  $("how-file").addEventListener("change", chooseFile);
  $("record-file").addEventListener("change", chooseFile);
  $("more-next").addEventListener("click", finishQuestions);
  $("restart").addEventListener("click", restart);
  for (const button of document.querySelectorAll("[data-back]")) {
    button.addEventListener("click", () => showStep(button.dataset.back));
  }
  for (const form of document.querySelectorAll("form")) {
    form.addEventListener("submit", (event) => event.preventDefault());
  }
  // On paper nothing can be opened.
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
  // Answers survive a reload; a recording that was not saved does not.
  window.addEventListener("beforeunload", (event) => {
    if (recording && state.step !== "first") event.preventDefault();
  });
}

async function begin() {
  try {
    questionnaire = await getQuestions();
  } catch (error) {
    trouble(error.message, begin);
    return;
  }
  trouble("");
  renderQuestions();
  showMissing();
  if (state.step === "emergency") {
    const advice = await postAdvice(state.answers).catch(() => null);
    if (advice?.level === "emergency") {
      showEmergency(asEmergency(advice));
      return;
    }
    state.step = "first";
  }
  // A reload in the middle: answers are there, but sound and result are not.
  const step = state.step === "result" ? "more" : state.step;
  showStep(STEPS.includes(step) ? step : "first", false);
}

wire();
begin();
