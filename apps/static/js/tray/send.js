// One file to the server, and what its answer means.
//   done: it is there          failed: it never will be        again: the same at once, with a new token
//   pause: not now (offline, busy, session, quota), for all files

const GATEWAY = new Set([502, 504, 522, 523, 524]);

export function send(file, item, site, onProgress) {
  const request = new XMLHttpRequest();
  const body = new FormData();
  body.append("image", file, item.name);
  request.open("POST", site.url);
  request.setRequestHeader("Accept", "application/json");
  request.setRequestHeader("X-CSRFToken", site.token);
  request.setRequestHeader("X-Account", site.account);
  request.responseType = "json";
  request.upload.addEventListener("progress", (event) => {
    if (event.lengthComputable && event.total) onProgress(event.loaded / event.total);
  });
  const answer = new Promise((resolve) => {
    request.addEventListener("load", () => resolve(meaning(request, site)));
    for (const kind of ["error", "timeout"]) {
      request.addEventListener(kind, () => resolve({ kind: "pause", reason: "offline" }));
    }
    request.addEventListener("abort", () => resolve({ kind: "aborted" }));
  });
  request.send(body);
  return { answer, abort: () => request.abort() };
}

function meaning(request, site) {
  const { status, response } = request;
  if (response?.results) return ofResults(response.results);
  const error = response?.error;
  if (status === 401 || error?.code === "other_account") return { kind: "pause", reason: "session" };
  if (status === 400 && error?.code === "csrf") return { kind: "again" };
  if (status === 413) return { kind: "failed", message: error?.message ?? site.texts.tooLargeForServer, doubt: true };
  if (status === 429 || status === 503 || GATEWAY.has(status)) {
    return { kind: "pause", reason: "busy", message: error?.message, seconds: retryAfter(request) };
  }
  if (status >= 500) return { kind: "pause", reason: "busy", message: error?.message, counts: true };
  if (status < 400) return { kind: "pause", reason: "session" }; // a login page of somebody's proxy
  return { kind: "failed", message: error?.message ?? site.texts.failed.replace("%(status)s", status) };
}

function ofResults(results) {
  const [first] = results;
  if (results.length !== 1 || first.archive) return ofArchive(results);
  if (first.ok) return { kind: "done", result: { url: first.url, thumbnail: first.thumbnail, ids: [first.id] } };
  if (first.code === "duplicate") return { kind: "done", result: { url: first.url, twin: true, ids: [] } };
  if (first.code === "over_quota") return { kind: "pause", reason: "quota", message: first.message };
  return { kind: "failed", message: first.message };
}

const SHOWN = 50; // refused members that are listed by name

function ofArchive(results) {
  const good = results.filter((result) => result.ok);
  const twins = results.filter((result) => result.code === "duplicate");
  const bad = results.filter((result) => !result.ok && result.code !== "duplicate");
  return {
    kind: good.length || twins.length ? "done" : "failed",
    result: {
      ids: good.map((result) => result.id),
      url: good.length === 1 ? good[0].url : null,
      thumbnail: good[0]?.thumbnail ?? null,
      archive: { good: good.length, twins: twins.length, bad: bad.length },
      refused: bad.slice(0, SHOWN).map(({ file, message }) => ({ file, message })),
    },
  };
}

// Seconds until the server wants to be asked again; null: it did not say.
function retryAfter(request) {
  const value = request.getResponseHeader("Retry-After");
  if (!value) return null;
  const seconds = /^\d+$/.test(value) ? Number(value) : (Date.parse(value) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(seconds, 1) : null;
}

// Whether the server can be reached, who is logged in there, and a fresh token.
export async function askSession(site) {
  let answer;
  try {
    answer = await fetch(site.sessionUrl, { headers: { Accept: "application/json" }, cache: "no-store" });
  } catch {
    return "offline";
  }
  if (answer.status === 401 || answer.status === 403 || answer.redirected) return "session";
  if (!answer.ok) return "offline";
  const said = await answer.json().catch(() => null);
  if (!said) return "session";
  if (String(said.account) !== site.account) return "session";
  site.token = said.csrf_token;
  return "fine";
}
