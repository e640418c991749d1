// Creates elements. All text becomes text nodes, never markup.

const SVG = "http://www.w3.org/2000/svg";

/** Creates an element with attributes and children; children that are not elements are text. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Creates an SVG element. */
function draw(name, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** Styled text: each piece is text, or a class and text. */
function spans(pieces) {
  return pieces.map((piece) =>
    typeof piece === "string" ? piece : make("span", { class: piece[0] }, piece[1]));
}

/** A number with thousands separators. */
function thousands(number) {
  return number.toLocaleString("en");
}
