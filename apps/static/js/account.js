// The tag threshold as a percentage while its slider moves.
for (const output of document.querySelectorAll("output[data-percent-of]")) {
  const slider = document.getElementById(output.dataset.percentOf);
  slider.addEventListener("input", () => {
    output.textContent = `${Math.round(slider.value * 100)} %`;
  });
}
