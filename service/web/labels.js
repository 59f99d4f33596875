/** Names, colours and forms of what is said of a face. */

export const HEADS = ["emotion", "gender", "age"];

/** Each stands out by 3 to 1 from a light and a dark ground. */
export const COLOURS = {
  angry: "#d64545",
  disgust: "#5d8f35",
  fear: "#8b63d6",
  happy: "#b98200",
  sad: "#3d7fd1",
  surprise: "#c4549a",
  neutral: "#7a8493",
};

export function percent(probability) {
  return `${Math.round(probability * 100)} %`;
}

export function predictions(face) {
  return HEADS.filter((head) => face[head]).map((head) => ({ head, ...face[head] }));
}

/** `happy 99 %, female, 31-80 (uncertain)`: a face in words. */
export function inWords(face) {
  const said = predictions(face).map(({ head, label, probability, uncertain }) => {
    const share = head === "emotion" ? ` ${percent(probability)}` : "";
    return `${label}${share}${uncertain ? " (uncertain)" : ""}`;
  });
  return said.join(", ") || "found";
}

export function counted(count, noun) {
  return `${count || "No"} ${noun}${count === 1 ? "" : "s"}`;
}

/** What a face is called: its track in a stream, its place in a photo. */
export function numbered(faces) {
  return faces.map((face, index) => ({ face, id: face.track_id ?? index + 1 }));
}
