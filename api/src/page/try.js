"use strict";
// Sends the requests of `/docs`. The page is of use without it, too.

for (const shown of document.querySelectorAll("code.curl")) {
  shown.textContent = shown.textContent.replace("http://localhost:8080", location.origin);
}

function openOperation() {
  const operation = document.getElementById(location.hash.slice(1));
  if (operation instanceof HTMLDetailsElement) {
    operation.open = true;
    operation.scrollIntoView();
  }
}
addEventListener("hashchange", openOperation);
openOperation();

async function send(form) {
  const query = new URLSearchParams();
  const options = { method: form.dataset.method, headers: {} };
  let path = form.dataset.path;
  for (const field of form.querySelectorAll("[data-in]")) {
    if (field.value === "") continue;
    switch (field.dataset.in) {
      case "path": path = path.replace(`{${field.name}}`, encodeURIComponent(field.value)); break;
      case "query": query.set(field.name, field.value); break;
      case "header": options.headers[field.name] = field.value; break;
      case "body":
        options.body = field.value;
        options.headers["Content-Type"] = "application/json";
    }
  }
  const answer = await fetch(query.size ? `${path}?${query}` : path, options);
  const headers = [...answer.headers].map(([name, value]) => `${name}: ${value}`);
  const body = await answer.text();
  return `${answer.status} ${answer.statusText}\n\n${body}\n\n${headers.join("\n")}`;
}

for (const form of document.querySelectorAll("form")) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const shown = document.createElement("pre");
    shown.tabIndex = 0; // So that the keyboard can scroll it.
    try {
      shown.textContent = await send(form);
    } catch (error) {
      shown.textContent = `There was no answer: ${error.message}`;
    }
    form.querySelector("output").replaceChildren(shown);
  });
}
