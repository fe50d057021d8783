// Why a call failed and what to do next, from its answer alone or from the lack of one.

const GATEWAY = new Set([502, 504]);

// The answer's own words for people and for programs, in the way of each protocol; null: not ours.
function errorOf(body) {
  if (!body || typeof body !== "object") return null;
  const message = [body.detail, body.message, body.error].find((one) => typeof one === "string");
  const code = [body.reason, body.code, body.error].find((one) => typeof one === "string");
  return message && code ? { message, code } : null;
}

// [cause, next step] of a call that was not good. `texts` are those of the page.
export async function causeOf(result, { texts, borrowed, why }) {
  const said = (name, values = {}) => {
    const all = { status: result.status, path: result.shown ?? result.path, seconds: result.wait || 5, ...values };
    const filled = (text) => text.replace(/\{(\w+)\}/g, (_, key) => all[key]);
    return [filled(texts[name]), filled(texts[`${name}Next`])];
  };
  if (result.failure) return said(result.failure);
  if (GATEWAY.has(result.status)) return said("gateway");
  const error = errorOf(result.body);
  if (!error) return said(result.status === 413 ? "large" : "foreign");
  const { message } = error;
  if (result.status === 401 && result.path.startsWith("/labelstudio/")) return said("studio", { message });
  if (result.status === 401 || result.status === 403) {
    const reason = borrowed ? "" : await why();
    return reason ? [reason, texts.tokenNext] : said("lost", { message });
  }
  if (result.status === 404) return said("missing", { message });
  if (result.status === 413) return said("large");
  if (result.status === 429) return said("often", { message });
  if (result.status === 503) return said({ busy: "busy", device_lost: "crash" }[error.code] ?? "model", { message });
  return said(result.status >= 500 ? "crash" : "refused", { message });
}
