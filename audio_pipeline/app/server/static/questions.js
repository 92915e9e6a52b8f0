// Questions from the server's questionnaire as form fields. No field has a value set in advance.

import { element } from "./dom.js";

const SCALE_MAXIMUM = 10;

function legend(question) {
  const parts = [element("legend", {}, question.text)];
  if (question.hint) {
    parts.push(element("p", { class: "hint", id: `${question.id}-hint` }, question.hint));
  }
  return parts;
}

function radio(question, option, answer, onAnswer) {
  const id = `${question.id}-${option.value}`;
  return element(
    "div",
    { class: "option" },
    element("input", {
      type: "radio",
      id,
      name: question.id,
      value: option.value,
      checked: answer === option.value,
      onchange: () => onAnswer(option.value),
    }),
    element("label", { for: id }, option.text),
  );
}

// One tap takes an answer back: leaving a question out is always possible.
function clearButton(question, fieldset, onAnswer) {
  const button = element(
    "button",
    {
      type: "button",
      class: "clear",
      onclick: () => {
        for (const input of fieldset.querySelectorAll("input")) {
          if (input.type === "radio") input.checked = false;
          else input.value = "";
        }
        onAnswer(null);
        button.hidden = true;
        fieldset.querySelector("input").focus();
      },
    },
    "Clear my answer",
    element("span", { class: "sr-only" }, `: ${question.text}`),
  );
  return button;
}

function choices(question, answer, onAnswer) {
  const longest = Math.max(...question.options.map((option) => option.text.length));
  return element(
    "div",
    { class: longest > 22 ? "options tall" : "options" },
    ...question.options.map((option) => radio(question, option, answer, onAnswer)),
  );
}

function scale(question, answer, onAnswer) {
  const numbers = Array.from({ length: question.maximum - question.minimum + 1 }, (_, index) => {
    const value = question.minimum + index;
    return radio(question, { value, text: String(value) }, answer, onAnswer);
  });
  return element("div", { class: "scale" }, ...numbers);
}

function number(question, answer, onAnswer) {
  const error = element("p", { class: "error", id: `${question.id}-error`, role: "alert" });
  const input = element("input", {
    type: "text",
    inputmode: "numeric",
    autocomplete: "off",
    id: `${question.id}-number`,
    value: answer ?? "",
    "aria-label": question.text,
    "aria-describedby": `${question.id}-error`,
    oninput: () => {
      const typed = input.value.trim();
      const value = Number(typed);
      const wrong = typed !== "" && !(/^\d{1,3}$/.test(typed) && value >= question.minimum && value <= question.maximum);
      error.textContent = wrong
        ? `Type a whole number from ${question.minimum} to ${question.maximum}, or leave it empty.`
        : "";
      input.setAttribute("aria-invalid", String(wrong));
      onAnswer(typed === "" || wrong ? null : value);
    },
  });
  return element("div", {}, element("div", { class: "number" }, input), error);
}

// Whether an answer comes whole, with one tap; a typed number comes digit by digit.
const isTapped = (question) => question.type === "choice" || question.maximum <= SCALE_MAXIMUM;

function field(question, answer, onAnswer) {
  if (!isTapped(question)) return number(question, answer, onAnswer);
  return question.type === "choice"
    ? choices(question, answer, onAnswer)
    : scale(question, answer, onAnswer);
}

// Returns a fieldset; onAnswer(id, value) gets null when the answer is taken back.
export function renderQuestion(question, answer, onAnswer) {
  const fieldset = element("fieldset", {
    id: `question-${question.id}`,
    "aria-describedby": question.hint ? `${question.id}-hint` : null,
  });
  const clear = clearButton(question, fieldset, (value) => onAnswer(question.id, value));
  clear.hidden = answer === undefined;
  const answered = (value) => {
    clear.hidden = value === null;
    onAnswer(question.id, value);
  };
  fieldset.append(...legend(question), field(question, answer, answered), clear);
  return fieldset;
}
