// What a drawn panel shows. All functions run in the page.

/// Records the text that is drawn on each canvas: "No data" on a chart is not in the document.
export function recordCanvasText() {
  const original = CanvasRenderingContext2D.prototype.fillText;
  CanvasRenderingContext2D.prototype.fillText = function (text, ...more) {
    this.canvas.drawnTexts = [...(this.canvas.drawnTexts ?? []), String(text)];
    return original.call(this, text, ...more);
  };
}

/// Returns title, state and fault of each panel.
export function readPanels() {
  const EMPTY = /\bno data\b/i;

  function fault(panel, content) {
    const alert = panel.querySelector('[role="alert"], [aria-label="panel errors"]');
    if (alert) return `error: ${alert.textContent || alert.getAttribute("aria-label")}`;
    const canvases = [...content.querySelectorAll("canvas")];
    const texts = [content.textContent, ...canvases.flatMap((canvas) => canvas.drawnTexts ?? [])];
    if (texts.some((text) => EMPTY.test(text))) return "shows `No data`";
    const table = content.querySelector("table, [role=table]");
    if (table && table.querySelectorAll("tbody tr, [role=row]").length < 1) return "a table without rows";
    if (canvases.some((canvas) => !canvas.drawnTexts?.length) && !table) return "an empty chart";
    if (content.querySelector(".MuiSkeleton-root")) return "still loads";
    if (canvases.length === 0 && content.textContent.trim() === "") return "shows nothing";
    return undefined;
  }

  return [...document.querySelectorAll('[data-testid="panel"]')].map((panel) => {
    const content = panel.querySelector("figure");
    return {
      title: panel.querySelector("h2, h3, h4, h5, h6")?.textContent ?? "",
      loading: panel.querySelector('[aria-label="Loading..."], [aria-label="loading"], [role="progressbar"], .MuiSkeleton-root') !== null,
      fault: fault(panel, content),
    };
  });
}

/// Returns the titles of panels whose place in a picture of the page has fewer colours than text or a line has.
export async function blankPanels(png) {
  const LEAST_COLORS = 6;
  const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
  const canvas = new OffscreenCanvas(image.width, image.height);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);

  function colors(element) {
    const { x, y, width, height } = element.getBoundingClientRect();
    if (width < 50 || height < 30) return 0;
    const { data } = context.getImageData(x, y, width, height);
    const found = new Set();
    for (const pixel of new Uint32Array(data.buffer)) found.add(pixel);
    return found.size;
  }

  return [...document.querySelectorAll('[data-testid="panel"]')]
    .filter((panel) => colors(panel.querySelector("figure")) < LEAST_COLORS)
    .map((panel) => panel.querySelector("h2, h3, h4, h5, h6")?.textContent ?? "");
}
