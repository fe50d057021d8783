// What programs send, as their libraries do: one function for each way, with the picture and the
// token in the place where that program puts them.

const WIDTH = 320; // pixels
const HEIGHT = 240;
const FILE = "test.jpg";

// A picture that is drawn here and now: a house, a tree and the sun.
export async function picture() {
  const canvas = Object.assign(document.createElement("canvas"), { width: WIDTH, height: HEIGHT });
  const pen = canvas.getContext("2d");
  const fill = (color, ...box) => { pen.fillStyle = color; pen.fillRect(...box); };
  const disc = (color, x, y, radius) => { pen.fillStyle = color; pen.beginPath(); pen.arc(x, y, radius, 0, 7); pen.fill(); };
  fill("#9cc9ee", 0, 0, WIDTH, HEIGHT);
  fill("#6f9a52", 0, 170, WIDTH, 70);
  disc("#ffe08a", 270, 45, 22);
  fill("#b5654a", 60, 100, 110, 90);
  fill("#f3ead8", 80, 120, 28, 28);
  fill("#5a3a2a", 125, 140, 26, 50);
  fill("#6b4a30", 236, 130, 12, 60);
  disc("#3f7a3a", 242, 112, 34);
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, "image/jpeg", 0.9); });
  return { blob, text: `${FILE}, ${WIDTH} × ${HEIGHT}, ${blob.size} B` };
}

// The part of a token that lists show too.
export function visible(token) {
  return /^sbt?_/.test(token) ? `${token.slice(0, token.indexOf("_") + 9)}…` : "…";
}

const bearer = (token) => ({ Authorization: `Bearer ${token}` });

function form(path, fields, { blob, text }, headers = {}) {
  const body = new FormData();
  for (const [name, value] of Object.entries(fields)) body.append(name, value);
  body.append("image", blob, FILE);
  return { path, options: { method: "POST", headers, body }, sent: [["image", text]] };
}

function withKey(path, token, image) {
  const made = form(path, { api_key: token }, image);
  return { ...made, sent: [...made.sent, ["api_key", visible(token)]], good: deepstack };
}

function withHeader(path, token, image, good) {
  const made = form(path, {}, image, bearer(token));
  return { ...made, sent: [...made.sent, ["Authorization", `Bearer ${visible(token)}`]], good };
}

const deepstack = (body) => body.success === true && Array.isArray(body.predictions);

async function base64(blob) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}

export const CALLS = {
  deepstack: ({ token, image }) => withKey("/v1/vision/detection", token, image),
  fast: ({ token, image }) => withKey("/v1/vision/custom/fast", token, image),
  bearer: ({ token, image }) => withHeader("/v1/vision/detection", token, image, deepstack),
  cvat: ({ token, image, model }) => withHeader(`/v1/vision/custom/${encodeURIComponent(model || "default")}`, token, image, deepstack),
  rest: ({ token, image }) => withHeader("/api/v1/detect", token, image, (body) => Array.isArray(body.results)),
  async roboflow({ token, image }) {
    const body = { api_key: token, model_id: "fast/1", image: { type: "base64", value: await base64(image.blob) } };
    return {
      path: "/infer/object_detection",
      options: { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) },
      sent: [["image", `base64, ${image.text}`], ["model_id", body.model_id], ["api_key", visible(token)]],
      good: (answer) => Array.isArray(answer.predictions),
    };
  },
  // Only the name of the address is shown: what follows lets a Label Studio in.
  labelstudio: ({ secret }) => ({
    path: `/labelstudio/${secret}/health`,
    shown: "/labelstudio/…/health",
    options: { method: "GET" },
    sent: [],
    good: (body) => body.status === "UP",
  }),
};
