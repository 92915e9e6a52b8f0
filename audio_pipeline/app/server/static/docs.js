// The API's documentation, drawn from openapi.json with no third-party code.

import { $, element } from "./dom.js";

function resolve(document, schema) {
  const name = schema?.$ref?.split("/").pop();
  return name ? { name, ...document.components.schemas[name] } : schema;
}

// Wide tables scroll by themselves, not the page.
function table(rows) {
  return element("div", { class: "wide", tabindex: "0" }, element("table", {}, element("tbody", {}, ...rows)));
}

function fields(document, schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([name, property]) => {
    const inner = resolve(document, property.items ?? property) ?? property;
    const kind = property.type ?? inner.name ?? inner.title ?? "";
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, name),
      element("td", {}, (schema.required ?? []).includes(name) ? "required" : ""),
      element("td", {}, property.description ?? inner.description ?? kind),
    );
  });
  return rows.length ? table(rows) : null;
}

function example(schema) {
  const value = schema.examples?.[0] ?? schema.example;
  return value ? element("pre", { tabindex: "0" }, JSON.stringify(value, null, 2)) : null;
}

function body(document, content) {
  return Object.entries(content ?? {}).map(([type, { schema }]) => {
    const shape = resolve(document, schema);
    return element("div", {}, element("h3", {}, `Body: ${type}`), fields(document, shape), example(shape));
  });
}

function responses(document, operation) {
  const rows = Object.entries(operation.responses).map(([code, response]) => {
    const shape = resolve(document, response.content?.["application/json"]?.schema);
    const words = code === "200" ? (shape?.description ?? "Done.") : response.description;
    return element("tr", {}, element("th", { scope: "row" }, code), element("td", {}, words));
  });
  return table(rows);
}

function operation(document, path, method, described) {
  return element(
    "section",
    {},
    element("h2", {}, `${method.toUpperCase()} ${path}`),
    element("p", {}, described.description ?? ""),
    ...body(document, described.requestBody?.content),
    element("h3", {}, "Answers"),
    responses(document, described),
  );
}

const document_ = await (await fetch("openapi.json")).json();
$("description").textContent = document_.info.description;
$("operations").append(
  ...Object.entries(document_.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, described]) => operation(document_, path, method, described)),
  ),
);
