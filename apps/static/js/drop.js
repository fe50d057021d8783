// Files dropped anywhere on the page; while they hang over it, the body says so.

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

export function onFilesDropped(take) {
  let depth = 0; // dragenter and dragleave also fire for every element inside
  document.addEventListener("dragenter", (event) => {
    if (hasFiles(event)) depth += 1;
    document.body.classList.toggle("is-dropping", depth > 0);
  });
  document.addEventListener("dragleave", (event) => {
    if (hasFiles(event)) depth -= 1;
    document.body.classList.toggle("is-dropping", depth > 0);
  });
  document.addEventListener("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    depth = 0;
    document.body.classList.remove("is-dropping");
    take([...event.dataTransfer.files]);
  });
}
