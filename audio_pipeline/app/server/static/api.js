// The server, in a few calls. Paths are relative, so a pairing secret in the address goes along.

import { state } from "./state.js";
import { language, say } from "./words.js";

const RETRIES = 3;

export class ServerError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

const pause = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

export const unreachable = () => new ServerError(say("server.unreachable"), 0);

export async function read(response) {
  if (response.ok) return response;
  let message = say("server.failed");
  try {
    message = (await response.json()).error ?? message;
  } catch {
    // Not JSON: keep our own words.
  }
  throw new ServerError(message, response.status);
}

// A busy server or a lost connection is tried again by itself, a few times.
async function send(path, options, onWait = () => {}) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const response = await fetch(path, options);
      if (response.status !== 503 || attempt === RETRIES) return await read(response);
      const seconds = Number(response.headers.get("Retry-After")) || 2;
      onWait(say("server.busy", { count: seconds }));
      await pause(Math.min(seconds, 15));
    } catch (error) {
      if (error instanceof ServerError) throw error;
      if (attempt === RETRIES) throw unreachable();
      onWait(say("server.lost"));
      await pause(attempt);
    }
  }
}

export async function getQuestions(region) {
  const query = new URLSearchParams(region ? { region, language } : { language });
  return (await send(`api/v1/questions?${query}`, {})).json();
}

function post(path, document) {
  const body = JSON.stringify(document);
  return send(path, { method: "POST", headers: { "Content-Type": "application/json" }, body });
}

function postJson(path, answers, finding) {
  const sound = finding && { finding: finding.label, confidence: finding.confidence };
  const asked = { answers, region: state.region, language };
  return post(path, sound ? { ...asked, sound } : asked);
}

// What to ask next: answers may hold null for what was left out.
export async function postInterview({ answers, details }) {
  return (await post("api/v1/interview", { answers, details, region: state.region, language })).json();
}

// The recommendation in words, as the page shows it.
export async function postAdvice(answers, finding) {
  return (await postJson("api/v1/advice", answers, finding)).json();
}

// The recommendation for programs.
export async function postTriage(answers, finding) {
  return (await postJson("api/v1/triage", answers, finding)).json();
}

export async function postFhir(answers) {
  return (await postJson("api/v1/fhir", answers)).blob();
}

function form(recording, answers) {
  const data = new FormData();
  if (answers) data.append("answers", JSON.stringify(answers));
  data.append("region", state.region);
  data.append("language", language);
  if (recording.capture) data.append("capture", JSON.stringify(recording.capture));
  data.append("audio", recording.blob, recording.name);
  return data;
}

// What the sound alone tells; the recommendation comes from the answers, later.
export async function postAnalysis(recording, onWait) {
  const body = form(recording, null);
  return (await send("api/v1/analyses", { method: "POST", body }, onWait)).json();
}

export async function postReport(recording, answers, embed) {
  const body = form(recording, answers);
  body.append("embed", embed ? "yes" : "no");
  return (await send("api/v1/reports", { method: "POST", body })).blob();
}

// What a person kept; { enabled: false } where the computer keeps nothing.
export async function getHistory() {
  return (await send("api/v1/history", {})).json();
}

export async function keepVisit(recording, answers, withSound) {
  const body = form(recording, answers);
  if (withSound) body.append("keep_take", "yes");
  await send("api/v1/history", { method: "POST", body });
}

export const getKeptSound = async (id) => (await send(`api/v1/history/${id}/take`, {})).blob();

// id: one visit; without it everything.
export const deleteKept = (id) => send(id ? `api/v1/history/${id}` : "api/v1/history", { method: "DELETE" });

export async function compareKept(first, second) {
  return (await send(`api/v1/history/compare?first=${first}&second=${second}`, {})).json();
}

export async function postExport(passphrase) {
  return (await post("api/v1/history/export", { passphrase })).blob();
}
