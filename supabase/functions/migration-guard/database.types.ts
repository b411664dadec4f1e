// Written by `npm run types` from the SQL in supabase/migrations. Do not edit.
export type Json = string | number | boolean | null | { [key: string]: Json | undefined } | Json[];

export type Database = {
  "migration_guard_api": {
    Tables: {
      [_ in never]: never;
    };
    Views: {
      [_ in never]: never;
    };
    Functions: {
      "admit_change": {
        Args: { "actor": string };
        Returns: {
          "admission": string;
          "role": string;
        }[];
      };
      "cancel_job": {
        Args: { "actor": string; "id": string };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["job"];
        SetofOptions: {
          from: "*";
          to: "job";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "confirm_backup": {
        Args: { "actor": string; "note": string; "version": string };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["backup"];
        SetofOptions: {
          from: "*";
          to: "backup";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "count_refusals": { Args: { "actor"?: string; "status": string; "times": number }; Returns: undefined };
      "create_backup": {
        Args: { "actor": string; "idempotency_key"?: string; "request_id"?: string; "version": string };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["job"];
        SetofOptions: {
          from: "*";
          to: "job";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "create_export": {
        Args: {
          "actor": string;
          "idempotency_key"?: string;
          "recipients": (string)[];
          "request_id"?: string;
          "target": string;
          "version": string;
        };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["job"];
        SetofOptions: {
          from: "*";
          to: "job";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "create_import": {
        Args: {
          "actor": string;
          "expected_manifest"?: string;
          "export": string;
          "idempotency_key"?: string;
          "request_id"?: string;
          "target"?: string;
          "version": string;
        };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["job"];
        SetofOptions: {
          from: "*";
          to: "job";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "delete_backup": {
        Args: {
          "actor": string;
          "confirm": string;
          "idempotency_key"?: string;
          "override"?: Json;
          "request_id"?: string;
          "token": string;
          "version": string;
        };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["job"];
        SetofOptions: {
          from: "*";
          to: "job";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "delete_export": {
        Args: {
          "actor": string;
          "confirm": string;
          "id": string;
          "idempotency_key"?: string;
          "override"?: Json;
          "request_id"?: string;
          "token": string;
        };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["job"];
        SetofOptions: {
          from: "*";
          to: "job";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "delete_key": { Args: { "actor": string; "name": string }; Returns: undefined };
      "delete_plan": { Args: { "actor": string; "version": string }; Returns: undefined };
      "derive_plan": { Args: { "actor": string; "schema": string; "touches": Json; "version": string }; Returns: Json };
      "diff_backup": {
        Args: {
          "actor": string;
          "exact"?: boolean;
          "idempotency_key"?: string;
          "include_values": boolean;
          "request_id"?: string;
          "sample_keys": number;
          "version": string;
        };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["job"];
        SetofOptions: {
          from: "*";
          to: "job";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "get_audit_head": {
        Args: { "actor": string };
        Returns: {
          "at": string;
          "hash": string;
          "number": number;
          "oldest_pending_at": string;
          "pending": number;
        }[];
      };
      "get_backup": {
        Args: { "version": string };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["backup"];
        SetofOptions: {
          from: "*";
          to: "backup";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "get_checklist": {
        Args: { "version": string };
        Returns: {
          "details": string;
          "item": string;
          "passed": boolean;
          "required": boolean;
          "title": string;
        }[];
      };
      "get_export": {
        Args: { "id": string };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["export"];
        SetofOptions: {
          from: "*";
          to: "export";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "get_job": {
        Args: { "actor"?: string; "id": string };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["job"];
        SetofOptions: {
          from: "*";
          to: "job";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "get_key": {
        Args: { "actor": string; "name": string };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["key"];
        SetofOptions: {
          from: "*";
          to: "key";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "get_metrics": { Args: Record<PropertyKey, never>; Returns: Json };
      "get_plan": {
        Args: { "version": string };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["plan"];
        SetofOptions: {
          from: "*";
          to: "plan";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "get_readiness": {
        Args: Record<PropertyKey, never>;
        Returns: {
          "pg_cron": boolean;
          "product_version": string;
          "queued_jobs": number;
          "running_jobs": number;
          "server_version": string;
        }[];
      };
      "get_role": { Args: { "actor": string }; Returns: string };
      "list_audit": {
        Args: {
          "actor": string;
          "before"?: number;
          "max_entries"?: number;
          "of_action"?: string;
          "of_actor"?: string;
          "of_outcome"?: string;
          "of_version"?: string;
          "since"?: string;
          "until"?: string;
        };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["audit_entry"][];
        SetofOptions: {
          from: "*";
          to: "audit_entry";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      "list_backups": {
        Args: Record<PropertyKey, never>;
        Returns: Database["migration_guard_api"]["CompositeTypes"]["backup"][];
        SetofOptions: {
          from: "*";
          to: "backup";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      "list_exports": {
        Args: { "version": string };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["export"][];
        SetofOptions: {
          from: "*";
          to: "export";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      "list_jobs": {
        Args: { "actor"?: string; "max_jobs"?: number; "version"?: string };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["job"][];
        SetofOptions: {
          from: "*";
          to: "job";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      "list_keys": {
        Args: { "actor": string; "names": (string)[] };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["key"][];
        SetofOptions: {
          from: "*";
          to: "key";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      "list_names": {
        Args: { "schema": string };
        Returns: {
          "enums": (string)[];
          "functions": (string)[];
          "schemas": (string)[];
          "signatures": (string)[];
          "tables": (string)[];
        }[];
      };
      "list_plans": {
        Args: Record<PropertyKey, never>;
        Returns: Database["migration_guard_api"]["CompositeTypes"]["plan"][];
        SetofOptions: {
          from: "*";
          to: "plan";
          isOneToOne: false;
          isSetofReturn: true;
        };
      };
      "plan_cleanup": {
        Args: { "actor": string; "version": string };
        Returns: {
          "guards": Json;
          "schema": string;
          "token": string;
          "token_expires_at": string;
          "trash_hours": number;
          "two_keys": boolean;
        }[];
      };
      "plan_export_removal": {
        Args: { "actor": string; "id": string };
        Returns: {
          "guards": Json;
          "token": string;
          "token_expires_at": string;
          "two_keys": boolean;
        }[];
      };
      "plan_rollback": {
        Args: { "actor": string; "options": Json; "version": string };
        Returns: {
          "cannot_undo": Json;
          "left_as_is": Json;
          "new_objects": Json;
          "notes": Json;
          "plan_hash": string;
          "possible": boolean;
          "statements": Json;
          "tables": Json;
        }[];
      };
      "preflight_plan": {
        Args: { "actor": string; "touches"?: Json; "version": string; "warnings"?: Json };
        Returns: {
          "can_back_up": boolean;
          "checks": Json;
          "estimated_bytes": number;
        }[];
      };
      "put_key": {
        Args: { "actor": string; "name": string; "role": string };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["key"];
        SetofOptions: {
          from: "*";
          to: "key";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "put_plan": {
        Args: { "actor": string; "plan": Json; "version": string };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["plan"];
        SetofOptions: {
          from: "*";
          to: "plan";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "record_refusal": {
        Args: { "action": string; "actor"?: string; "job_id"?: string; "parameters"?: Json; "version"?: string };
        Returns: number;
      };
      "record_webhook": {
        Args: { "attempt": number; "failure"?: string; "id": string; "status"?: number };
        Returns: number;
      };
      "restore_from_trash": {
        Args: { "actor": string; "backup_id"?: string; "version": string };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["backup"];
        SetofOptions: {
          from: "*";
          to: "backup";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "resume_export": {
        Args: { "actor": string; "id": string; "idempotency_key"?: string; "request_id"?: string };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["job"];
        SetofOptions: {
          from: "*";
          to: "job";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "roll_back": {
        Args: {
          "actor": string;
          "idempotency_key"?: string;
          "options": Json;
          "plan_hash": string;
          "rehearse": boolean;
          "request_id"?: string;
          "version": string;
        };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["job"];
        SetofOptions: {
          from: "*";
          to: "job";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "take_webhooks": {
        Args: { "max_webhooks": number };
        Returns: {
          "attempt": number;
          "id": string;
          "payload": string;
          "unix_time": number;
          "url": string;
        }[];
      };
      "verify_audit": {
        Args: {
          "actor": string;
          "expected_hash"?: string;
          "from_number"?: number;
          "max_entries"?: number;
          "previous_hash"?: string;
        };
        Returns: {
          "entries": number;
          "first_broken": Json;
          "head": string;
          "intact": boolean;
          "last_hash": string;
          "next_number": number;
          "oldest_pending_at": string;
          "pending": number;
        }[];
      };
      "verify_backup": {
        Args: {
          "actor": string;
          "expected_manifest"?: string;
          "idempotency_key"?: string;
          "request_id"?: string;
          "version": string;
        };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["job"];
        SetofOptions: {
          from: "*";
          to: "job";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
      "verify_export": {
        Args: {
          "actor": string;
          "id": string;
          "idempotency_key"?: string;
          "request_id"?: string;
          "stored_only": boolean;
        };
        Returns: Database["migration_guard_api"]["CompositeTypes"]["job"];
        SetofOptions: {
          from: "*";
          to: "job";
          isOneToOne: true;
          isSetofReturn: false;
        };
      };
    };
    Enums: {
      [_ in never]: never;
    };
    CompositeTypes: {
      "audit_entry": {
        "id": number | null;
        "at": string | null;
        "actor": string | null;
        "role": string | null;
        "db_user": string | null;
        "request_id": string | null;
        "source": string | null;
        "version": string | null;
        "job_id": string | null;
        "action": string | null;
        "outcome": string | null;
        "parameters": Json | null;
        "number": number | null;
        "hash": string | null;
      };
      "backup": {
        "version": string | null;
        "schema": string | null;
        "state": string | null;
        "backup_id": string | null;
        "actor": string | null;
        "created_at": string | null;
        "manifest": string | null;
        "retention_days": number | null;
        "trash_hours": number | null;
        "two_keys": boolean | null;
        "require_export": boolean | null;
        "verified_ok": boolean | null;
        "verified_at": string | null;
        "confirmed_at": string | null;
        "confirmed_by": string | null;
        "confirmation_note": string | null;
        "last_diff": Json | null;
        "last_diff_at": string | null;
        "rolled_back_at": string | null;
        "rolled_back_by": string | null;
        "trashed_at": string | null;
        "trashed_by": string | null;
        "purge_after": string | null;
        "metadata": Json | null;
        "tables": Json | null;
      };
      "export": {
        "id": string | null;
        "version": string | null;
        "backup_id": string | null;
        "target": string | null;
        "location": string | null;
        "recipients": (string)[] | null;
        "state": string | null;
        "actor": string | null;
        "created_at": string | null;
        "finished_at": string | null;
        "chunks": number | null;
        "chunks_done": number | null;
        "objects": number | null;
        "rows": number | null;
        "bytes": number | null;
        "text_bytes": number | null;
        "manifest": string | null;
        "sums_sha256": string | null;
        "verified_ok": boolean | null;
        "verified_at": string | null;
        "removed_at": string | null;
        "removed_by": string | null;
      };
      "job": {
        "id": string | null;
        "kind": string | null;
        "rehearse": boolean | null;
        "version": string | null;
        "status": string | null;
        "progress": Json | null;
        "result": Json | null;
        "error": Json | null;
        "actor": string | null;
        "created_at": string | null;
        "started_at": string | null;
        "finished_at": string | null;
      };
      "key": {
        "name": string | null;
        "role": string | null;
        "is_assigned": boolean | null;
        "updated_at": string | null;
        "updated_by": string | null;
      };
      "plan": {
        "version": string | null;
        "title": string | null;
        "description": string | null;
        "schema": string | null;
        "tables": Json | null;
        "enums": (string)[] | null;
        "functions": (string)[] | null;
        "match": string | null;
        "retention_days": number | null;
        "trash_hours": number | null;
        "two_keys": boolean | null;
        "require_export": boolean | null;
        "contacts": (string)[] | null;
        "notify_url": string | null;
        "actor": string | null;
        "created_at": string | null;
        "updated_at": string | null;
      };
    };
  };
};

type DatabaseWithoutInternals = Omit<Database, "__InternalSupabase">;

type DefaultSchema = DatabaseWithoutInternals[Extract<keyof Database, "migration_guard_api">];

export type Tables<
  DefaultSchemaTableNameOrOptions extends
    | keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof (
      & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
      & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"]
    )
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals } ? (
    & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    & DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Views"]
  )[TableName] extends {
    Row: infer R;
  } ? R
  : never
  : DefaultSchemaTableNameOrOptions extends keyof (DefaultSchema["Tables"] & DefaultSchema["Views"])
    ? (DefaultSchema["Tables"] & DefaultSchema["Views"])[DefaultSchemaTableNameOrOptions] extends {
      Row: infer R;
    } ? R
    : never
  : never;

export type TablesInsert<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
    Insert: infer I;
  } ? I
  : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Insert: infer I;
    } ? I
    : never
  : never;

export type TablesUpdate<
  DefaultSchemaTableNameOrOptions extends
    | keyof DefaultSchema["Tables"]
    | { schema: keyof DatabaseWithoutInternals },
  TableName extends DefaultSchemaTableNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"]
    : never = never,
> = DefaultSchemaTableNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaTableNameOrOptions["schema"]]["Tables"][TableName] extends {
    Update: infer U;
  } ? U
  : never
  : DefaultSchemaTableNameOrOptions extends keyof DefaultSchema["Tables"]
    ? DefaultSchema["Tables"][DefaultSchemaTableNameOrOptions] extends {
      Update: infer U;
    } ? U
    : never
  : never;

export type Enums<
  DefaultSchemaEnumNameOrOptions extends
    | keyof DefaultSchema["Enums"]
    | { schema: keyof DatabaseWithoutInternals },
  EnumName extends DefaultSchemaEnumNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"]
    : never = never,
> = DefaultSchemaEnumNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[DefaultSchemaEnumNameOrOptions["schema"]]["Enums"][EnumName]
  : DefaultSchemaEnumNameOrOptions extends keyof DefaultSchema["Enums"]
    ? DefaultSchema["Enums"][DefaultSchemaEnumNameOrOptions]
  : never;

export type CompositeTypes<
  PublicCompositeTypeNameOrOptions extends
    | keyof DefaultSchema["CompositeTypes"]
    | { schema: keyof DatabaseWithoutInternals },
  CompositeTypeName extends PublicCompositeTypeNameOrOptions extends {
    schema: keyof DatabaseWithoutInternals;
  } ? keyof DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"]
    : never = never,
> = PublicCompositeTypeNameOrOptions extends { schema: keyof DatabaseWithoutInternals }
  ? DatabaseWithoutInternals[PublicCompositeTypeNameOrOptions["schema"]]["CompositeTypes"][CompositeTypeName]
  : PublicCompositeTypeNameOrOptions extends keyof DefaultSchema["CompositeTypes"]
    ? DefaultSchema["CompositeTypes"][PublicCompositeTypeNameOrOptions]
  : never;

export const Constants = {
  "migration_guard_api": {
    Enums: {},
  },
} as const;
