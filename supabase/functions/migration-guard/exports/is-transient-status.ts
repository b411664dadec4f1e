/**
 * Whether a store that answers with this HTTP status may answer otherwise in a moment. 544 is Supabase Storage's own: its database
 * was too slow. What is not implemented (501), or has no space (507), stays so.
 */
export const isTransientStatus = (status: number): boolean =>
  status === 408 || status === 429 || status >= 500 && status !== 501 && status !== 507;
