/** The path of a Zapier or Make hook is its credential: people and logs get the origin only. */
export function maskUrl(url: string | null): string | null {
  if (url === null) return null;
  if (!URL.canParse(url)) return "(invalid URL)";
  const { origin, pathname, search } = new URL(url);
  return pathname === "/" && search === "" ? `${origin}/` : `${origin}/***`;
}
