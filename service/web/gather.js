/** Files that are chosen, dropped anywhere on the page, or pasted. */

/** Call `take` with the files, and `refuse` with a sentence about those that are no picture. */
export function gather({ button, input, take, refuse }) {
  const sort = (files) => {
    const [good, bad] = [files.filter(isPicture), files.filter((file) => !isPicture(file))];
    take(good);
    if (bad.length) refuse(`${bad.map(({ name }) => name).join(", ")}: this is neither a photo nor a video.`);
  };
  button.onclick = () => input.click();
  input.onchange = () => {
    sort([...input.files]);
    // So that choosing the same file again is a change.
    input.value = "";
  };
  document.addEventListener("paste", ({ clipboardData }) => sort([...clipboardData.files]));
  onDrop((files) => sort(files));
}

function onDrop(take) {
  const mark = (dragging) => document.body.classList.toggle("dragging", dragging);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    mark(true);
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => relatedTarget || mark(false));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    mark(false);
    take([...event.dataTransfer.files]);
  });
}

function isPicture({ type }) {
  return /^(image|video)\//.test(type);
}
