// The operations of the REST interface from its OpenAPI document, each with a form to try it.

const page = document.getElementById("reference");
const text = page.dataset;
const METHODS = ["get", "post", "put", "patch", "delete"];
const SHOWN = 200_000; // characters of an answer

let api;

function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made) made[key] = value;
    else made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

// What a reference such as "#/components/schemas/Image" stands for.
function resolved(part) {
  if (!part?.$ref) return part;
  return part.$ref.slice(2).split("/").reduce((place, key) => place[key], api);
}

function field(id, name, schema, { required = false, help = "" } = {}) {
  const type = resolved(schema) ?? {};
  const label = element("label", { htmlFor: id, className: "form-label mb-1" }, element("code", {}, name));
  if (required) label.append(` (${text.textRequired})`);
  const input = type.enum
    ? element("select", { className: "form-select" }, ...(required ? [] : [new Option("", "")]), ...type.enum.map((value) => new Option(value)))
    : element("input", { className: "form-control", autocomplete: "off" });
  if (isFile(type)) Object.assign(input, { type: "file", multiple: type.type === "array" });
  else if (type.type === "integer" || type.type === "number") Object.assign(input, { type: "number", step: type.type === "number" ? "any" : "1" });
  Object.assign(input, { id, name, required });
  if (type.default !== undefined && type.default !== null && input.type !== "file") input.placeholder = String(type.default);
  const note = help || type.description || "";
  if (note) input.setAttribute("aria-describedby", `${id}-help`);
  return element("div", { className: "mb-2" }, label, input, note ? element("div", { id: `${id}-help`, className: "form-text" }, note) : null);
}

function isFile(type) {
  return type.format === "binary" || resolved(type.items)?.format === "binary";
}

function fieldsOf(id, parameters, body) {
  const fields = parameters.map((one, n) => field(`${id}-p${n}`, one.name, one.schema, { required: one.required, help: one.description }));
  const [kind, content] = Object.entries(body?.content ?? {})[0] ?? [];
  const schema = resolved(content?.schema);
  if (kind === "multipart/form-data") {
    for (const [name, type] of Object.entries(schema.properties)) {
      fields.push(field(`${id}-${name}`, name, type, { required: schema.required?.includes(name) }));
    }
  } else if (kind) {
    const example = Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, type]) => [name, sample(resolved(type))]));
    const area = element("textarea", { id: `${id}-body`, name: "body", className: "form-control font-monospace", rows: 5, spellcheck: false });
    area.value = JSON.stringify(example, null, 2);
    fields.push(element("div", { className: "mb-2" }, element("label", { htmlFor: area.id, className: "form-label mb-1" }, text.textBody), area));
  }
  return fields;
}

function sample(type) {
  if (type.default !== undefined) return type.default;
  const kind = Array.isArray(type.type) ? type.type[0] : type.type;
  return { integer: 1, number: 1, boolean: true, array: [] }[kind] ?? "";
}

function requestOf(form, path, parameters, body) {
  let address = path;
  const query = new URLSearchParams();
  const headers = {};
  const token = document.getElementById("token").value.trim();
  if (token) headers.Authorization = `Bearer ${token}`;
  for (const { name, in: where } of parameters) {
    const { value } = form.elements.namedItem(name);
    if (where === "path") address = address.replace(`{${name}}`, encodeURIComponent(value));
    else if (value !== "" && where === "query") query.set(name, value);
    else if (value !== "") headers[name] = value;
  }
  const options = { headers, credentials: "omit" };
  if (body?.content?.["multipart/form-data"]) {
    options.body = new FormData();
    const taken = new Set(parameters.map((one) => one.name));
    for (const input of form.elements) {
      if (!input.name || taken.has(input.name)) continue;
      if (input.type === "file") for (const file of input.files) options.body.append(input.name, file);
      else if (input.value !== "") options.body.append(input.name, input.value);
    }
  } else if (body) {
    headers["Content-Type"] = "application/json";
    options.body = form.elements.namedItem("body").value;
  }
  return [query.size ? `${address}?${query}` : address, options];
}

async function shown(response) {
  const kind = response.headers.get("Content-Type") ?? "";
  if (kind.includes("json")) return JSON.stringify(await response.json(), null, 2).slice(0, SHOWN);
  const content = await response.arrayBuffer();
  return content.byteLength ? text.textBinary.replace("{size}", content.byteLength) : text.textEmpty;
}

function operation(path, method, about, shared) {
  const id = `${method}-${path}`.replace(/\W+/g, "-");
  const parameters = [...shared, ...(about.parameters ?? [])].map(resolved);
  const body = resolved(about.requestBody);
  const answer = element("pre", { className: "api-answer", hidden: true, tabIndex: 0, "aria-label": text.textAnswer });
  const button = element("button", { className: "btn btn-primary" }, text.textSend);
  const form = element("form", { className: "mb-3" }, ...fieldsOf(id, parameters, body), button);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      const [address, options] = requestOf(form, path, parameters, body);
      const response = await fetch(address, { ...options, method: method.toUpperCase() });
      answer.textContent = `${response.status} ${response.statusText}\n\n${await shown(response)}`;
    } catch {
      answer.textContent = text.textFailed;
    }
    answer.hidden = false;
    button.disabled = false;
  });
  const scope = about["x-scope"] ? element("p", { className: "small text-body-secondary mb-2" }, `${text.textScope}: ${about["x-scope"]}`) : null;
  const description = about.description ? element("p", {}, about.description) : null;
  return element(
    "details", { className: "api-operation" },
    element("summary", {}, element("span", { className: "api-method" }, method.toUpperCase()), element("code", {}, path), element("span", {}, about.summary ?? "")),
    description, scope, form, answer,
  );
}

function draw(place) {
  const parts = new Map(api.tags.map((tag) => [tag.name, { title: tag.description, items: [] }]));
  for (const [path, operations] of Object.entries(api.paths)) {
    for (const method of METHODS) {
      const about = operations[method];
      if (about) parts.get(about.tags[0]).items.push(operation(path, method, about, operations.parameters ?? []));
    }
  }
  for (const { title, items } of parts.values()) place.append(element("h2", { className: "h5 mt-4" }, title), ...items);
}

page.querySelector("[data-token]").addEventListener("submit", (event) => event.preventDefault());
const place = page.querySelector("[data-operations]");
try {
  const response = await fetch(page.dataset.document, { credentials: "omit" });
  api = await response.json();
  draw(place);
} catch {
  place.textContent = text.textFailed;
}
