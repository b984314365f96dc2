// The path of a Zapier or Make hook is its credential, so people and logs see only the origin.

/** For logs; null when the text is not a URL. */
export function originOf(url: string | null): string | null {
  return url !== null && URL.canParse(url) ? new URL(url).origin : null;
}

/** For people: shows that there is a path, but not which one. */
export function maskUrl(url: string | null): string | null {
  if (url === null) return null;
  if (!URL.canParse(url)) return "(invalid URL)";
  const { origin, pathname, search } = new URL(url);
  return pathname === "/" && search === "" ? `${origin}/` : `${origin}/***`;
}
