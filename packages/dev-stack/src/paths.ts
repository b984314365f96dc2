import { fileURLToPath } from "node:url";

export const repositoryRoot = fileURLToPath(
  new URL("../../..", import.meta.url),
);
export const dataRoot = `${repositoryRoot}.data`;
/** Holds one file per process that has children, so that `./run down` finds what a kill -9 left running. */
export const stateFolder = `${dataRoot}/run`;
export const migrationsFolder = `${repositoryRoot}supabase/migrations`;
export const rolesFile = fileURLToPath(
  new URL("../sql/supabase-roles.sql", import.meta.url),
);
