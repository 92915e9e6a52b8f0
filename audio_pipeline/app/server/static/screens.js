// One screen of the interview: a question, a list to tick, or a number. No field is set in advance.

import { element } from "./dom.js";
import { say } from "./words.js";

// onGive(given) gets question to value, null where the person leaves it out.
export function renderScreen(screen, known, onGive) {
  const [question] = screen.questions;
  const title = element("h1", { id: "ask-title", tabindex: "-1" }, screen.title);
  const why = screen.why ? element("details", { class: "why" }, element("summary", {}, say("ask.why")), element("p", {}, screen.why)) : null;
  let body;
  if (screen.ticked) body = ticks(screen, known, onGive);
  else if (question.type === "choice") body = choices(question, known, onGive);
  else if (question.maximum - question.minimum <= 10) body = scale(question, known, onGive);
  else body = number(question, known, onGive);
  const leave = element(
    "button",
    { type: "button", class: "quiet", id: "leave-out", onclick: () => onGive(Object.fromEntries(screen.questions.map(({ id }) => [id, null]))) },
    say("ask.leave_out"),
  );
  return element("form", { onsubmit: (event) => event.preventDefault(), novalidate: true }, title, screen.lead ? element("p", {}, screen.lead) : null, why, body, element("div", { class: "buttons" }, leave));
}

// A tap is the answer: the next screen follows. What was chosen before is marked.
function choices(question, known, onGive) {
  return element(
    "div",
    { class: "choices", role: "group", "aria-labelledby": "ask-title" },
    ...question.options.map(({ value, text }) =>
      element(
        "button",
        {
          type: "button",
          class: "choice",
          id: `${question.id}-${value}`,
          "aria-pressed": String(known[question.id] === value),
          onclick: () => onGive({ [question.id]: value }),
        },
        text,
      ),
    ),
  );
}

function scale(question, known, onGive) {
  const numbers = Array.from({ length: question.maximum - question.minimum + 1 }, (_, index) => question.minimum + index);
  return element(
    "div",
    { class: "scale", role: "group", "aria-labelledby": "ask-title" },
    ...numbers.map((value) =>
      element(
        "button",
        {
          type: "button",
          class: "choice",
          id: `${question.id}-${value}`,
          "aria-pressed": String(known[question.id] === value),
          onclick: () => onGive({ [question.id]: value }),
        },
        String(value),
      ),
    ),
  );
}

function number(question, known, onGive) {
  const error = element("p", { class: "error", id: "number-error", role: "alert" });
  const input = element("input", {
    type: "text",
    inputmode: "numeric",
    autocomplete: "off",
    maxlength: "3",
    id: `${question.id}-number`,
    value: known[question.id] ?? "",
    "aria-labelledby": "ask-title",
    "aria-describedby": "number-error",
  });
  const give = () => {
    const typed = input.value.trim();
    const value = Number(typed);
    if (/^\d{1,3}$/.test(typed) && value >= question.minimum && value <= question.maximum) onGive({ [question.id]: value });
    else {
      error.textContent = say("ask.number", question);
      input.setAttribute("aria-invalid", "true");
      input.focus();
    }
  };
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter") give();
  });
  return element(
    "div",
    {},
    element("div", { class: "number" }, input, element("button", { type: "button", class: "primary", id: "number-next", onclick: give }, say("common.next"))),
    error,
  );
}

// A list to tick. "None of these" is one tap, for most people; each tick can be "not sure".
function ticks(screen, known, onGive) {
  const rows = screen.questions.map((question) => {
    const value = known[question.id] ?? "no";
    const ticked = value !== "no" && value !== question.lowest;
    const box = element("input", { type: "checkbox", id: `${question.id}-tick`, checked: ticked });
    const canDoubt = question.options.some((option) => option.value === "unsure");
    const unsure = element("input", { type: "checkbox", id: `${question.id}-unsure`, checked: value === "unsure" });
    const doubt = element(
      "div",
      { class: "option unsure", hidden: !canDoubt || !box.checked },
      unsure,
      element("label", { for: unsure.id }, say("ask.unsure"), element("span", { class: "sr-only" }, `: ${question.text}`)),
    );
    box.addEventListener("change", () => {
      doubt.hidden = !canDoubt || !box.checked;
    });
    const answer = () => {
      if (!box.checked) return "no";
      if (unsure.checked) return "unsure";
      // What was said of it before stays; else a closer look may follow.
      return ticked && value !== "unsure" ? value : "yes";
    };
    return { question, box, answer, node: element("div", {}, element("div", { class: "option" }, box, element("label", { for: box.id }, question.text)), doubt) };
  });
  const error = element("p", { class: "error", role: "alert" });
  const next = () => {
    if (rows.some(({ box }) => box.checked)) onGive(Object.fromEntries(rows.map(({ question, answer }) => [question.id, answer()])));
    else error.textContent = say("ask.tick_or_none", screen);
  };
  const none = () => onGive(Object.fromEntries(rows.map(({ question }) => [question.id, "no"])));
  return element(
    "div",
    { role: "group", "aria-labelledby": "ask-title" },
    element("div", { class: "choices" }, element("button", { type: "button", class: "choice", id: "none-next", onclick: none }, screen.none)),
    ...rows.map(({ node }) => node),
    error,
    element("div", { class: "buttons" }, element("button", { type: "button", class: "primary", id: "ticks-next", onclick: next }, say("common.next"))),
  );
}

// Only who answered every safety question, and in a way that rules its worry out, is invited.
export function reasonNotToTwist(questionnaire, answers, mayTwist) {
  const first = questionnaire.questions.filter((question) => question.section === "emergency");
  if (first.some(({ id }) => !(id in answers))) return say("how.left_out");
  const open = first.some(({ id, clear_options: clear }) => !clear.includes(answers[id]));
  return open || !mayTwist ? say("how.look_first") : "";
}
