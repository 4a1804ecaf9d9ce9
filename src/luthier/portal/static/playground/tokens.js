// Text with the probability of each token: in colour and underline, as a tooltip, and as a table.
const MAX_TABLE_ROWS = 500;

/** The pieces of a delta as elements; one without a shade where the tokens do not spell the text. */
export function tokenNodes(text, tokens) {
  const isSpelled = tokens.map((one) => one.token).join("") === text;
  const pieces = isSpelled ? tokens : [{ token: text, logprob: Math.min(...tokens.map((one) => one.logprob)) }];
  return pieces.map((piece) => {
    const span = document.createElement("span");
    span.className = shade(Math.exp(piece.logprob));
    span.title = percent(piece.logprob);
    span.textContent = piece.token;
    return span;
  });
}

/** Adds the tokens to the table of an answer, as far as it goes. */
export function addRows(body, tokens) {
  for (const one of tokens) {
    if (body.rows.length >= MAX_TABLE_ROWS) return;
    const row = body.insertRow();
    const text = document.createElement("code");
    text.textContent = JSON.stringify(one.token);
    row.insertCell().append(text);
    const cell = row.insertCell();
    cell.className = "number";
    cell.textContent = percent(one.logprob);
  }
}

function shade(probability) {
  if (probability >= 0.9) return "pg-sure";
  if (probability >= 0.5) return "pg-likely";
  return probability >= 0.1 ? "pg-open" : "pg-rare";
}

function percent(logProb) {
  const value = 100 * Math.exp(logProb);
  return `${value >= 10 ? value.toFixed(0) : value.toPrecision(2)} %`;
}
