// Every word of the page, in the language that it came in; they lie in the page itself.

const words = JSON.parse(document.getElementById("words").textContent);

// regions: code to { name, number, go, countries }; watch: what to call for at once.
export const { regions, watch } = words;

export const language = document.documentElement.lang;
// For dates: the person's own country where they read this language.
export const locale = navigator.languages.find((one) => one.split("-")[0] === language) ?? language;

// say("history.title"): names in {braces} are filled in from values.
export function say(key, values = {}) {
  const [section, name] = key.split(".");
  return words[section][name].replace(/\{(\w+)\}/g, (_, value) => String(values[value]));
}
