// Copy buttons. They are hidden in the page, so that without this module nothing looks broken.
const SHOWN_MS = 2_000;
const news = document.getElementById("copy-news");

async function copy(button) {
  const code = document.getElementById(button.dataset.copies);
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    // No clipboard here (plain http on another machine, or refused): select it for the visitor.
    getSelection().selectAllChildren(code);
    return false;
  }
}

for (const button of document.querySelectorAll("[data-copies]")) {
  const label = button.textContent;
  let timer = 0;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const copied = await copy(button);
    news.textContent = copied ? button.dataset.copied : button.dataset.selected;
    if (!copied) return;
    button.dataset.state = "done";
    button.textContent = button.dataset.copied;
    clearTimeout(timer);
    timer = setTimeout(() => {
      delete button.dataset.state;
      button.textContent = label;
      news.textContent = "";
    }, SHOWN_MS);
  });
}
