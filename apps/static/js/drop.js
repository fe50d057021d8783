// Files dropped anywhere on the page; while they hang over it, the body says so. A field for files
// takes by itself what is dropped on it.

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
const onField = (event) => Boolean(event.target.closest?.("input[type=file]"));

// take(files, transfer) is called within the event: the transfer is empty afterwards.
export function onFilesDropped(take) {
  let depth = 0; // dragenter and dragleave also fire for every element inside
  const over = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("is-dropping", depth > 0);
  };
  document.addEventListener("dragenter", (event) => hasFiles(event) && over(1));
  document.addEventListener("dragleave", (event) => hasFiles(event) && over(-1));
  document.addEventListener("dragover", (event) => {
    if (hasFiles(event) && !onField(event)) event.preventDefault();
  });
  document.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    over(-depth);
    if (onField(event)) return;
    event.preventDefault();
    take([...event.dataTransfer.files], event.dataTransfer);
  });
}
