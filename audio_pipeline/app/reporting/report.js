// In a saved page: a Play button plays its stretch of the recording before it.
for (const button of document.querySelectorAll("button[data-start]")) {
  const audio = button.closest("section").querySelector("audio");
  const end = Number(button.dataset.end) + 0.3;
  button.addEventListener("click", () => {
    audio.currentTime = Math.max(0, Number(button.dataset.start) - 0.15);
    audio.ontimeupdate = () => {
      if (audio.currentTime < end) return;
      audio.pause();
      audio.ontimeupdate = null;
    };
    audio.play();
  });
}
