// Shows one dashboard with Perses: `show(dashboard, prometheus, range)` is called by draw.js.
import { createRoot } from "react-dom/client";
import { CssBaseline, ThemeProvider } from "@mui/material";
import { QueryClient, QueryClientProvider } from "@tanstack/react-query";
import { ChartsProvider, SnackbarProvider, TimeZoneProvider, generateChartsTheme, getTheme } from "@perses-dev/components";
import { PluginRegistry, TimeRangeProvider, UsageMetricsProvider, dynamicImportPluginLoader } from "@perses-dev/plugin-system";
import { Dashboard, DashboardProvider, DashboardStickyToolbar, DatasourceStoreProvider, VariableProvider } from "@perses-dev/dashboards";
import * as barChart from "@perses-dev/bar-chart-plugin";
import * as prometheusPlugin from "@perses-dev/prometheus-plugin";
import * as statChart from "@perses-dev/stat-chart-plugin";
import * as statusHistory from "@perses-dev/status-history-chart-plugin";
import * as table from "@perses-dev/table-plugin";
import * as timeSeries from "@perses-dev/timeseries-chart-plugin";

const PLUGINS = [barChart, prometheusPlugin, statChart, statusHistory, table, timeSeries];
const PALETTE = ["#3d7dd8", "#2e9e5b", "#8e5bd0", "#e8912d", "#1aa7a8", "#c2559d", "#7a8599", "#b59a2a", "#5b6ee1", "#a0522d"];

const pluginLoader = dynamicImportPluginLoader(
  PLUGINS.map((plugin) => ({ resource: plugin.getPluginModule(), importPlugin: () => Promise.resolve(plugin) })),
);

/// Returns the source of datasources: one Prometheus for all projects.
function datasourceApi(prometheus, scrapeInterval) {
  const resource = {
    kind: "GlobalDatasource",
    metadata: { name: "prometheus" },
    spec: { default: true, plugin: { kind: "PrometheusDatasource", spec: { directUrl: prometheus, scrapeInterval } } },
  };
  return {
    getDatasource: () => Promise.resolve(undefined),
    getGlobalDatasource: () => Promise.resolve(resource),
    listDatasources: () => Promise.resolve([]),
    listGlobalDatasources: () => Promise.resolve([resource]),
  };
}

function Page({ dashboard, prometheus, range }) {
  const theme = getTheme("light");
  // Without these margins, the first and last labels of the axes are cut.
  const margins = { grid: { top: 10 }, timeAxis: { axisLabel: { margin: 8, padding: [0, 0, 6, 0] } } };
  const chartsTheme = generateChartsTheme(theme, { echartsTheme: { color: PALETTE, ...margins } });
  const client = new QueryClient({ defaultOptions: { queries: { refetchOnWindowFocus: false, retry: false } } });
  const timeRange = { start: new Date(range.start * 1000), end: new Date(range.end * 1000) };
  const { display, variables } = dashboard.spec;
  return (
    <ThemeProvider theme={theme}>
      <CssBaseline />
      <QueryClientProvider client={client}>
      <TimeZoneProvider timeZone="UTC">
        <ChartsProvider chartsTheme={chartsTheme}>
          <SnackbarProvider>
            <PluginRegistry
              pluginLoader={pluginLoader}
              defaultPluginKinds={{ Panel: "TimeSeriesChart", TimeSeriesQuery: "PrometheusTimeSeriesQuery" }}
            >
                <TimeRangeProvider timeRange={timeRange} refreshInterval="0s">
                  <VariableProvider initialVariableDefinitions={variables}>
                    <DatasourceStoreProvider dashboardResource={dashboard} datasourceApi={datasourceApi(prometheus, range.scrapeInterval)}>
                      <DashboardProvider initialState={{ dashboardResource: dashboard, isEditMode: false }}>
                        <UsageMetricsProvider project={dashboard.metadata.project} dashboard={dashboard.metadata.name}>
                          <header style={{ padding: "10px 12px 2px" }}>
                            <b style={{ fontSize: 20 }}>{display.name}</b>
                            <span style={{ color: "#667085", marginLeft: 14 }}>{display.description}</span>
                          </header>
                          {variables.length > 0 && <DashboardStickyToolbar initialVariableIsSticky={false} sx={{ padding: "8px 12px" }} />}
                          <main style={{ padding: "0 8px 8px" }}>
                            <Dashboard panelOptions={{ showIcons: "hover" }} />
                          </main>
                        </UsageMetricsProvider>
                      </DashboardProvider>
                    </DatasourceStoreProvider>
                  </VariableProvider>
                </TimeRangeProvider>
            </PluginRegistry>
          </SnackbarProvider>
        </ChartsProvider>
      </TimeZoneProvider>
      </QueryClientProvider>
    </ThemeProvider>
  );
}

window.show = (dashboard, prometheus, range) =>
  createRoot(document.getElementById("root")).render(<Page dashboard={dashboard} prometheus={prometheus} range={range} />);
