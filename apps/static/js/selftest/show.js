// The details of a call: what was asked, what came back and how long it took.

const LISTED = 3; // entries of each list
const WORDS = 160; // characters of each text
const SHOWN = 1500; // characters of an answer

function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

function shorter(value) {
  if (typeof value === "string") return value.length > WORDS ? `${value.slice(0, WORDS)}…` : value;
  if (Array.isArray(value)) {
    const some = value.slice(0, LISTED).map(shorter);
    return value.length > LISTED ? [...some, `… ${value.length - LISTED}`] : some;
  }
  if (value && typeof value === "object") {
    return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, shorter(one)]));
  }
  return value;
}

function answerText({ body, text }) {
  const all = body === undefined ? text.replace(/\s+/g, " ").trim() : JSON.stringify(shorter(body), null, 2);
  return all.length > SHOWN ? `${all.slice(0, SHOWN)}…` : all;
}

function row(name, ...values) {
  return element("div", "", element("dt", "", name), element("dd", "", ...values));
}

// `several`: the cause stands here, because the verdict above is about more than one call.
export function details(result, texts, several) {
  const address = `${result.options.method} ${location.origin}${result.shown ?? result.path}`;
  const list = element("dl", "api-asked", row(texts.asked, element("code", "", address)));
  if (result.sent.length) list.append(row(texts.sent, result.sent.map(([name, value]) => `${name}: ${value}`).join(" · ")));
  const time = `${Math.round(result.ms)} ms`;
  list.append(row(texts.answer, result.status ? `${result.status} ${result.statusText} · ${time}` : `${texts.none} · ${time}`));
  const place = element("section", "api-call", list);
  place.dataset.status = result.status ?? result.failure;
  if (result.cause && several) {
    const [cause, next] = result.cause;
    place.prepend(element("p", "api-cause", element("b", "", cause), " ", next));
  }
  if (result.text) {
    const answer = element("pre", "api-answer", answerText(result));
    answer.tabIndex = 0;
    answer.setAttribute("role", "region");
    answer.setAttribute("aria-label", `${texts.answer}: ${address}`);
    place.append(answer);
  }
  return place;
}
