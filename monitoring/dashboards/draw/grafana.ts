// The type of a dashboard in Grafana's own package, from which run.py makes a JSON Schema.
import type { Dashboard } from "@grafana/schema/dist/types/raw/dashboard/x/types.gen";

export interface Checked {
  dashboard: Dashboard;
}
