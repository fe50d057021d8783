// The form of the gallery and of the upload page: what is chosen there goes to the tray.

const form = document.querySelector("[data-dropzone]");
const input = form.querySelector("input[type=file]");

input.addEventListener("change", () => {
  document.dispatchEvent(new CustomEvent("sightbox:upload", { detail: { files: [...input.files] } }));
  document.querySelector(".empty")?.remove();
  input.value = ""; // so that the same file can be chosen once more
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  input.click();
});
form.querySelector("[data-plain-submit]").hidden = true;
for (const button of form.querySelectorAll("[data-tray-pick]")) button.hidden = false;
form.classList.add("is-enhanced");
