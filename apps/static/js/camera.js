// The camera of this device: asked for, chosen, and why there is none.

const WIDE = { width: { ideal: 1280 }, height: { ideal: 720 } };
const REASONS = {
  NotAllowedError: "textRefused",
  SecurityError: "textRefused",
  NotFoundError: "textNoCamera",
  OverconstrainedError: "textNoCamera",
  NotReadableError: "textInUse",
  AbortError: "textInUse",
};

// Name of the text that says why the camera cannot be used.
export const reasonOf = (error) => REASONS[error?.name] ?? "textInUse";

export const mayAsk = () => window.isSecureContext && Boolean(navigator.mediaDevices?.getUserMedia);

// choice: "user", "environment", or the id of a device.
export function openCamera(choice) {
  const which = ["user", "environment"].includes(choice) ? { facingMode: choice } : { deviceId: { exact: choice } };
  return navigator.mediaDevices.getUserMedia({ audio: false, video: { ...WIDE, ...which } });
}

// Whether the camera looks at the one who holds the device: then people expect a mirror.
export function looksAtUser(stream, choice) {
  const facing = stream.getVideoTracks()[0]?.getSettings().facingMode;
  return facing ? facing === "user" : choice !== "environment";
}

// The devices have names only once the camera was allowed.
export async function listCameras(select, text) {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const cameras = devices.filter((device) => device.kind === "videoinput" && device.deviceId);
  const options = cameras.map((device, index) => {
    const name = device.label || text.textCamera.replace("{number}", index + 1);
    return new Option(name, device.deviceId, false, device.deviceId === select.value);
  });
  const sides = [...select.options].filter((option) => ["user", "environment"].includes(option.value));
  const chosen = select.value;
  select.replaceChildren(...sides, ...options);
  if ([...select.options].some((option) => option.value === chosen)) select.value = chosen;
}
