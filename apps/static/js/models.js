// Follows downloads of weights and measurements: progress while they run, a fresh page when one ends.

const POLL_MS = 1000;
const table = document.querySelector("[data-models]");
const running = () => [...table.querySelectorAll("[data-running]")];

async function poll() {
  const answer = await fetch(table.dataset.statusUrl, { headers: { Accept: "application/json" } });
  if (!answer.ok) return;
  const models = await answer.json();
  for (const row of running()) {
    const now = models[row.dataset.model];
    if (!now.running && !now.measuring) return location.reload();
    if (!row.querySelector("[data-progress]")) continue; // it is measured, or a download begins only now
    row.querySelector("[data-progress]").value = now.done;
    row.querySelector("[data-progress-text]").textContent = now.text;
  }
}

while (running().length) {
  await new Promise((resume) => setTimeout(resume, POLL_MS));
  await poll().catch(() => {}); // the server may be away for a moment
}
