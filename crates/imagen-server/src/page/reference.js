// The reference of the API, made of the document that programs read.

import { make } from "./dom.js";

const facts = await (await fetch("/openapi.json")).json();
const { schemas } = facts.components;

const kind = (schema) => {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.enum) return schema.enum.join(" · ");
  const range = schema.minimum !== undefined || schema.maximum !== undefined ? ` ${schema.minimum ?? ""}…${schema.maximum ?? ""}` : "";
  return `${[schema.type].flat().join(" or ")}${schema.items ? ` of ${kind(schema.items)}` : ""}${range}`;
};

const described = (name) => {
  const { properties, required = [] } = schemas[name];
  if (!properties) return null;
  return make("details", {}, make("summary", { class: "soft" }, name), make("table", {}, make("tbody", {}, Object.entries(properties).map(([field, schema]) =>
    make("tr", {}, make("th", { scope: "row" }, field, required.includes(field) ? " *" : ""), make("td", {}, kind(schema)))))));
};

const named = (content) => content?.["application/json"]?.schema.$ref?.split("/").at(-1);

const rows = Object.entries(facts.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, about]) => {
  const takes = named(about.requestBody?.content), [status, answer] = Object.entries(about.responses)[0], gives = named(answer.content);
  return make("section", {},
    make("h2", {}, make("code", {}, `${method.toUpperCase()} ${path}`)),
    make("p", {}, about.summary), make("p", { class: "soft num" }, status),
    takes ? described(takes) : null, gives && gives !== takes ? described(gives) : null);
}));
const example = `curl -s ${location.origin}/api/v1/jobs -H 'Content-Type: application/json' -d '{"prompt": "a red apple", "seed": 1}'`;
document.querySelector(".reference").append(
  make("p", {}, facts.info.description), make("div", { class: "command" }, make("code", {}, example)), ...rows);
