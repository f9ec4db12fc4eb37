// Holds what the tests' GitHub was asked and answered to GitHub's own description of its API. Packages are looked for where it
// is started:
//
//     npm install @octokit/openapi ajv ajv-formats
//     RUNHOUND_TEST_HUB_LOG=LOG cargo test --test it hub::
//     node --input-type=module - LOG < tests/it/hub/validate.mjs
//
// LOG has a line of JSON for each exchange. What is refused may have been asked wrongly; what is granted may not.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import Ajv from "ajv";
import addFormats from "ajv-formats";

const require = createRequire(`${process.cwd()}/package.json`);
const description = JSON.parse(readFileSync(require.resolve("@octokit/openapi/generated/api.github.com.json"), "utf8"));

// What any operation may answer, whether its description says so or not.
const REFUSALS = [400, 401, 403, 404, 422, 429];
// `created` is described as one time, and is a span in GitHub's documentation.
const UNDESCRIBED_VALUES = ["created"];

// OpenAPI 3.0 says `nullable` where JSON Schema has a type.
function withNull(node) {
  if (Array.isArray(node)) return node.map(withNull);
  if (!(node instanceof Object)) return node;
  const { nullable, ...rest } = node;
  const plain = Object.fromEntries(Object.entries(rest).map(([key, value]) => [key, withNull(value)]));
  if (nullable === true) return { anyOf: [{ type: "null" }, plain] };
  return nullable === undefined ? plain : { nullable: withNull(nullable), ...plain };
}

const options = { strict: false, allErrors: true, inlineRefs: false, validateFormats: true };
const asSent = new Ajv(options);
const asText = new Ajv({ ...options, coerceTypes: true });
for (const ajv of [asSent, asText]) {
  addFormats(ajv);
  ajv.addSchema({ $id: "github", components: withNull(description.components) });
}

const known = new Map();
function errors(ajv, schema, value, what) {
  const absolute = JSON.stringify(withNull(schema)).replaceAll('"$ref":"#/', '"$ref":"github#/');
  const key = `${ajv === asText} ${absolute}`;
  if (!known.has(key)) known.set(key, ajv.compile(JSON.parse(absolute)));
  const validate = known.get(key);
  if (validate(value)) return [];
  return validate.errors.map((error) => `${what}${error.instancePath} ${error.message}`);
}

function resolved(node) {
  if (node?.$ref === undefined) return node;
  return node.$ref.split("/").slice(1).reduce((part, key) => part[key], description);
}

const templates = Object.keys(description.paths).map((template) => template.split("/"));
function operation(method, path) {
  const parts = path.split("/");
  const fits = (template) =>
    template.length === parts.length && template.every((part, i) => part.startsWith("{") || part === parts[i]);
  const literals = (template) => template.filter((part) => !part.startsWith("{")).length;
  const [template] = templates.filter(fits).sort((a, b) => literals(b) - literals(a));
  const item = template && description.paths[template.join("/")];
  return item?.[method.toLowerCase()] && { name: `${method} ${template.join("/")}`, ...item[method.toLowerCase()] };
}

function requestErrors(asked, { parameters = [], requestBody }) {
  const found = [];
  const query = new URLSearchParams(asked.query);
  const described = parameters.map(resolved).filter((parameter) => parameter.in === "query");
  for (const [name, value] of query) {
    const parameter = described.find((known) => known.name === name);
    if (!parameter) found.push(`query: ${name} is unknown`);
    else if (!UNDESCRIBED_VALUES.includes(name)) {
      const schema = { type: "object", properties: { [name]: parameter.schema } };
      found.push(...errors(asText, schema, { [name]: value }, "query"));
    }
  }
  for (const { name, required } of described) if (required && !query.has(name)) found.push(`query: ${name} is missing`);
  const body = resolved(requestBody);
  if (asked.request !== null && !body) found.push("request: there is a body");
  if (body && (asked.request !== null || body.required)) {
    found.push(...errors(asSent, body.content["application/json"].schema, asked.request, "request"));
  }
  return found;
}

function responseErrors({ status, response }, { responses }) {
  const described = resolved(responses[status]);
  if (!described && status === 304) return response === null ? [] : ["response: 304 has a body"];
  if (!described && !REFUSALS.includes(status)) return [`status ${status} is unknown`];
  const schema = described
    ? described.content?.["application/json"]?.schema
    : { $ref: "#/components/schemas/basic-error" };
  if (!schema) return response === null ? [] : ["response: there is a body"];
  const refusal = status < 400 ? {} : { required: ["message", "documentation_url"] };
  return errors(asSent, { allOf: [schema, refusal] }, response, "response");
}

function check(exchange) {
  const found = exchange.path.startsWith("/api/v3/") && operation(exchange.method, exchange.path.slice("/api/v3".length));
  if (!found) return exchange.status === 404 ? [] : ["the description has no such operation"];
  operations.add(found.name);
  const isGranted = exchange.status < 400;
  return [...(isGranted ? requestErrors(exchange, found) : []), ...responseErrors(exchange, found)];
}

const operations = new Set();
const [file] = process.argv.slice(2);
const exchanges = readFileSync(file, "utf8").trim().split("\n").map((line) => JSON.parse(line));
const wrong = exchanges.flatMap((exchange) => {
  const { method, path, query, status } = exchange;
  return check(exchange).map((error) => `${method} ${path}${query && `?${query}`} -> ${status}: ${error}`);
});
for (const line of new Set(wrong)) console.error(line);
console.log(`${exchanges.length} exchanges of ${operations.size} operations, ${wrong.length} errors`);
process.exitCode = wrong.length > 0 || operations.size === 0 ? 1 : 0;
