// The page: one screen at a time, each with an address of its own, so that the browser's Back,
// Forward and Reload go where the person expects. The server decides what is asked next, from the
// same data as in a terminal; emergency questions come before any invitation to twist.

import { getQuestions, postAdvice, postAnalysis, postInterview, postTriage } from "./api.js";
import { $, element, trouble } from "./dom.js";
import { showHistory, startHistory } from "./history.js";
import * as recordStep from "./record-step.js";
import { emergencyView, explanationView, heardView, isHigher, showResult } from "./result.js";
import { offer, offlineView } from "./offline.js";
import { reasonNotToTwist, renderScreen } from "./screens.js";
import { clear, keepAnswers, save, state } from "./state.js";
import { forgetTake, keepTake, restoreTake } from "./takes.js";
import { language, locale, regions, say } from "./words.js";

const TITLE = "Crepitus";

let questionnaire = null;
let interview = null;
let recording = null;
let analysis = null;
let result = null;
let stopSound = () => {};

// --- where we are ------------------------------------------------------------------------------

// The address after "#": a step, and for a question its place, as in "#ask-3".
function place() {
  const [step, number] = location.hash.slice(1).split("-");
  return { step: step || "start", number: Number(number) };
}

const address = (step) => `#${step}`;

function go(step, { replace = false } = {}) {
  if (location.hash === address(step)) show();
  else if (replace) location.replace(address(step));
  else location.hash = step;
}

const views = {
  start: showStart,
  why: showWhy,
  ask: showQuestion,
  how: showInvitation,
  record: () => recordStep.enter(questionnaire.protocol, trouble),
  heard: showHeard,
  check: showCheck,
  result: showResultStep,
  history: () => showHistory($("history"), { levelTitles: questionnaire.level_titles, words: answerLine, trouble }),
  emergency: showEmergencyStep,
};

let shown = null;
let turn = 0; // counts what the person does, so that a late answer of the server can be told

async function show() {
  if (!questionnaire) return;
  stopSound();
  stopSound = () => {};
  if (shown === "record") recordStep.leave();
  trouble("");
  let { step } = place();
  if (!(step in views)) step = "start";
  // Nothing is shown before the answers that it needs are there.
  const needs = { record: state.invited, heard: analysis, result };
  if (step in needs && !needs[step]) return go(state.invited ? next() : "start", { replace: true });
  if (step === "emergency" && !isEmergency()) return go("start", { replace: true });
  shown = step;
  for (const section of document.querySelectorAll("main > section")) {
    section.hidden = section.dataset.step !== step;
  }
  showProgress(step);
  await views[step]();
  const heading = document.querySelector(`section[data-step="${step}"] h1`);
  if (!heading) return;
  document.title = `${heading.textContent} - ${TITLE}`;
  // A number can be typed at once; its field is called what the heading says.
  const field = step === "ask" && document.querySelector("#screen input[type=text]");
  (field || heading).focus();
  window.scrollTo(0, 0);
}

const isEmergency = () => interview?.level_so_far === "emergency" || $("emergency").childElementCount > 0;

// Where an unfinished interview goes on.
function next() {
  if (!interview) return "start";
  if (isEmergency()) return "emergency";
  if (!state.invited && interview.first_part_done) return "how";
  return interview.screen ? `ask-${interview.trail.length + 1}` : "check";
}

function showProgress(step) {
  $("progress").hidden = step !== "ask" || !interview;
  if (step !== "ask" || !interview) return;
  const at = Math.min(place().number, interview.trail.length + 1);
  const all = interview.trail.length + interview.remaining;
  $("progress-text").textContent = say("ask.progress", { number: at, total: all });
  $("progress-bar").style.width = `${(100 * at) / Math.max(1, all)}%`;
}

// --- answers -----------------------------------------------------------------------------------

function noteLevel(level) {
  if (isHigher(level, state.highest)) state.highest = level;
  save();
}

// The answers as the rest of the API takes them: what was left out is not there.
const givenAnswers = () => interview?.answers ?? {};

async function walk() {
  interview = await postInterview(state);
  noteLevel(interview.level_so_far);
}

async function give(screen, given) {
  turn += 1;
  const mine = turn;
  keepAnswers(given, screen.detail);
  result = null;
  // The questionnaire itself says which single answers are an emergency: no network needed.
  for (const question of questionnaire.questions) {
    const reason = question.emergency_options?.[given[question.id]];
    if (reason) {
      const { title, advice } = questionnaire.emergency;
      showEmergency({ title, advice: [advice], reasons: [reason] });
    }
  }
  try {
    await walk();
    // What was not asked yet must not send anyone away in the middle.
    if (interview.level_so_far === "emergency") {
      const advice = await postAdvice(givenAnswers());
      // Whoever has gone to change the answer is not pulled back by what comes late.
      if (turn === mine && ["ask", "emergency"].includes(place().step)) showEmergency(asEmergency(advice));
    } else if (place().step === "ask") go(next());
  } catch (error) {
    if (place().step === "ask") trouble(error.message, () => give(screen, given));
  }
}

async function showQuestion() {
  if (!interview) await walk();
  const { number } = place();
  const past = interview.trail[number - 1];
  const screen = past ?? interview.screen;
  if (!screen || (!past && number !== interview.trail.length + 1)) return go(next(), { replace: true });
  if (!past && !state.invited && interview.first_part_done) return go("how", { replace: true });
  $("screen").replaceChildren(renderScreen(screen, state.answers, (given) => give(screen, given)));
  showProgress("ask");
}

const asEmergency = (advice) => ({
  title: advice.title,
  advice: advice.where_to_go,
  reasons: advice.why.length ? advice.why.map((reason) => reason.text) : [advice.no_reason],
});

// Shown again later, from Start or by the browser's Forward: in the words of the region chosen now.
async function showEmergencyStep() {
  if (!$("emergency").childElementCount) showEmergency(asEmergency(await postAdvice(givenAnswers())));
}

function showEmergency(emergency) {
  noteLevel("emergency");
  recordStep.leave();
  $("emergency").replaceChildren(
    emergencyView(emergency, questionnaire, () => {
      turn += 1;
      $("emergency").replaceChildren();
      go(interview?.trail.length ? `ask-${interview.trail.length}` : "start");
    }),
  );
  go("emergency");
}

// --- steps -------------------------------------------------------------------------------------

function showStart() {
  $("begin").textContent = say(interview?.trail.length ? "start.go_on" : "start.begin");
}

async function showWhy() {
  const { explanation } = await postTriage(givenAnswers(), analysis?.recordings[0].finding).catch(() => ({ explanation: [] }));
  $("why-text").replaceChildren(explanationView(explanation));
}

function showInvitation() {
  const why = reasonNotToTwist(questionnaire, givenAnswers(), interview?.may_twist);
  state.invited = true;
  save();
  $("no-twist").hidden = !why;
  $("no-twist-why").textContent = why;
  $("invitation").hidden = Boolean(why);
  $("how-record").hidden = Boolean(why);
  $("how-skip").textContent = say(why ? "how.go_on" : "how.skip");
  $("how-skip").classList.toggle("primary", Boolean(why));
}

// A take is listened to at once: what is wrong with it can still be mended.
async function useRecording(chosen) {
  recording = chosen;
  analysis = null;
  result = null;
  state.kept = false;
  await keepTake(chosen);
  await listen();
}

async function listen() {
  trouble(say("heard.listening"));
  try {
    analysis = await postAnalysis(recording, (words) => trouble(words));
    trouble("");
    go("heard");
  } catch (error) {
    trouble(say("heard.failed", { why: error.message }), error.status === 422 ? null : listen);
  }
}

function chooseFile(event) {
  const [file] = event.target.files;
  event.target.value = "";
  if (file) useRecording({ blob: file, name: file.name, capture: null });
}

async function withoutRecording() {
  recording = null;
  analysis = null;
  result = null;
  go(interview?.screen || !interview ? (await walk().catch(() => {}), next()) : "check");
  await forgetTake();
}

async function showHeard() {
  const view = await heardView(analysis.recordings[0], recording);
  $("heard").replaceChildren(view.node);
  view.draw();
  stopSound = view.stop;
}

function answerWords(question, value) {
  if (value === null || value === undefined) return say("check.left_out");
  return question.options?.find((option) => option.value === value)?.text ?? String(value);
}

// An answer that was kept; the questionnaire may have changed since.
function answerLine(id, value) {
  const question = questionnaire.questions.find((one) => one.id === id);
  return question ? `${question.text} ${answerWords(question, value)}` : `${id}: ${value}`;
}

// The answers in the order they were asked: for checking, for printing, for a doctor.
function answerRows() {
  return interview.trail.flatMap((screen, index) =>
    screen.questions
      .filter(({ id, lowest }) => !screen.ticked || !["no", lowest].includes(state.answers[id] ?? "no"))
      .map((question) => ({ index, title: screen.ticked ? `${screen.title} ${question.text}` : screen.title, words: answerWords(question, state.answers[question.id]) }))
      .concat(
        screen.ticked && screen.questions.every(({ id, lowest }) => ["no", lowest].includes(state.answers[id]))
          ? [{ index, title: screen.title, words: screen.none }]
          : [],
      ),
  );
}

async function showCheck() {
  if (!interview) await walk();
  if (interview.screen) return go(next(), { replace: true });
  $("check-recording").textContent = recording ? say("check.with", recording) : say("check.without");
  $("answers").replaceChildren(
    ...answerRows().map(({ index, title, words }) =>
      element(
        "li",
        {},
        element("span", {}, title, " ", element("strong", {}, words)),
        element("button", { type: "button", class: "quiet", onclick: () => go(`ask-${index + 1}`) }, say("check.change"), element("span", { class: "sr-only" }, `: ${title}`)),
      ),
    ),
  );
  $("status").textContent = "";
}

async function finishQuestions() {
  trouble("");
  $("check-next").disabled = true;
  $("status").textContent = say("check.working");
  try {
    const answers = givenAnswers();
    const finding = analysis?.recordings[0].finding;
    const [recommendation, advice] = await Promise.all([postTriage(answers, finding), postAdvice(answers, finding)]);
    result = { recommendation, advice, analysis };
    noteLevel(advice.level_so_far);
    if (advice.level === "emergency") showEmergency(asEmergency(advice));
    else go("result");
  } catch (error) {
    trouble(error.message, finishQuestions);
  } finally {
    $("check-next").disabled = false;
    $("status").textContent = "";
  }
}

async function showResultStep() {
  stopSound = await showResult($("result"), {
    ...result,
    recording,
    questionnaire,
    answers: givenAnswers(),
    rows: answerRows(),
    highest: state.highest,
    answeredAt: new Date().toLocaleString(locale),
    onAnswerMore: () => go("check"),
    onRecordAgain: () => go("record"),
    onKept: () => go("history"),
    trouble,
  });
}

async function restart() {
  clear();
  recording = null;
  analysis = null;
  result = null;
  interview = null;
  $("emergency").replaceChildren();
  $("result").replaceChildren();
  await forgetTake();
  await walk().catch(() => {});
  go("start");
}

// --- start -------------------------------------------------------------------------------------

// "en-US" is told 911, "en-GB" 999; where a language names no country, the server's own region.
function regionOf(languages, fallback) {
  const country = languages.map((language) => new Intl.Locale(language).region).find(Boolean);
  if (!country) return fallback;
  return Object.keys(regions).find((code) => regions[code].countries.includes(country)) ?? "EU";
}

async function setRegion(region) {
  questionnaire = await getQuestions(region);
  state.region = questionnaire.region;
  save();
  $("region").value = state.region;
  $("emergency").replaceChildren();
}

function wire() {
  recordStep.setUp({ onUse: useRecording, atOnce: true, trouble });
  for (const [value, { name }] of Object.entries(regions)) $("region").append(element("option", { value }, name));
  $("region").addEventListener("change", () => setRegion($("region").value).catch((error) => trouble(error.message)));
  $("language")?.addEventListener("change", () => {
    location.href = `?language=${$("language").value}${location.hash}`;
  });
  $("begin").addEventListener("click", () => go(next() === "start" ? "ask-1" : next()));
  $("why").addEventListener("click", () => go("why"));
  $("kept").addEventListener("click", () => go("history"));
  $("how-record").addEventListener("click", () => go("record"));
  $("heard-next").addEventListener("click", () => go(next()));
  $("heard-again").addEventListener("click", () => go("record"));
  for (const id of ["how-skip", "record-skip", "heard-skip"]) $(id).addEventListener("click", withoutRecording);
  for (const id of ["how-file", "record-file", "heard-file"]) $(id).addEventListener("change", chooseFile);
  $("check-next").addEventListener("click", finishQuestions);
  $("restart").addEventListener("click", () => {
    if (!interview?.trail.length && !recording) restart();
    else $("restart-dialog").showModal();
  });
  $("restart-no").addEventListener("click", () => $("restart-dialog").close());
  $("restart-yes").addEventListener("click", () => {
    $("restart-dialog").close();
    restart();
  });
  for (const button of document.querySelectorAll("[data-back]")) {
    button.addEventListener("click", () => history.back());
  }
  window.addEventListener("hashchange", show);
  // On paper nothing can be opened.
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
}

function showOffline() {
  const region = state.region ?? regionOf(navigator.languages, "EU");
  $("offline").hidden = false;
  $("offline").replaceChildren(offlineView(region, begin));
  $("offline").querySelector("h1").focus();
}

async function begin() {
  try {
    await setRegion(state.region ?? regionOf(navigator.languages, null));
    await Promise.all([walk(), startHistory()]);
    recording ??= await restoreTake();
    if (recording && !analysis) analysis = await postAnalysis(recording).catch(() => null);
    if (place().step === "result") await finishQuestions();
  } catch (error) {
    if (error.status === 0) showOffline();
    else trouble(error.message, begin);
    return;
  }
  $("offline").hidden = true;
  offer();
  if (isEmergency() && place().step !== "emergency") go("emergency");
  else await show();
}

wire();
begin();
