// The program of the original plan, as a careful engineer would have built it: the plan's two classes as they stand
// there, and a webhook route in front of them. It reads and writes its whole file synchronously, once for each
// delivery, because the plan's class does; it does not sync it. Everything it logs goes to standard output.

import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { join } from "node:path";
import { Webhooks } from "@octokit/webhooks";

class WorkflowCache {
  constructor(filename) {
    const cacheDir = join(process.cwd(), "cache");
    if (!existsSync(cacheDir)) {
      mkdirSync(cacheDir);
    }
    this.cacheFilePath = join(cacheDir, filename);
    this.ensureCacheExists();
  }

  ensureCacheExists() {
    if (!existsSync(this.cacheFilePath)) {
      writeFileSync(this.cacheFilePath, JSON.stringify({ sent: [] }, null, 2));
    }
  }

  hasBeenSent(workflowId) {
    try {
      const data = JSON.parse(readFileSync(this.cacheFilePath, "utf8"));
      return data.sent.includes(workflowId);
    } catch (error) {
      console.warn("Error reading cache file:", error);
      return false;
    }
  }

  markAsSent(workflowIds) {
    try {
      const data = JSON.parse(readFileSync(this.cacheFilePath, "utf8"));
      const newSent = [...new Set([...data.sent, ...workflowIds])];
      writeFileSync(this.cacheFilePath, JSON.stringify({ sent: newSent }, null, 2));
    } catch (error) {
      console.error("Error updating cache file:", error);
      throw error;
    }
  }

  filterNewWorkflows(workflowIds) {
    return workflowIds.filter((id) => !this.hasBeenSent(id));
  }
}

class DatadogService {
  constructor({ dryRun = false } = {}) {
    this.dryRun = dryRun;
    this.workflowCache = new WorkflowCache(dryRun ? "sent-workflows-dry-run.json" : "sent-workflows.json");
    this.url = new URL(`${process.env.DD_URL ?? "https://api.datadoghq.com"}/api/v2/series`);
  }

  async submitMetrics(payload, workflowIds) {
    const newWorkflows = this.workflowCache.filterNewWorkflows(workflowIds);
    if (newWorkflows.length === 0) {
      console.log("All workflows have already been processed, skipping");
      return;
    }
    console.log("Metrics:", JSON.stringify(payload));
    if (this.dryRun) {
      console.log("Would have processed workflows:", newWorkflows);
      this.workflowCache.markAsSent(newWorkflows);
      return;
    }
    try {
      const response = await this.post(JSON.stringify(payload));
      console.log("Metrics submitted successfully:", response);
      this.workflowCache.markAsSent(newWorkflows);
    } catch (error) {
      console.error("Error submitting metrics:", error);
      throw error;
    }
  }

  // Node's own agents keep connections open for the next request.
  post(body) {
    const { request } = this.url.protocol === "https:" ? https : http;
    const headers = {
      "Content-Type": "application/json",
      "Content-Length": Buffer.byteLength(body),
      "DD-API-KEY": process.env.DD_API_KEY,
    };
    return new Promise((resolve, reject) => {
      const sending = request(this.url, { method: "POST", headers }, (response) => {
        readAll(response).then((text) => {
          const taken = response.statusCode >= 200 && response.statusCode < 300;
          taken ? resolve(text) : reject(new Error(`Datadog answered ${response.statusCode}: ${text}`));
        }, reject);
      });
      sending.on("error", reject);
      sending.end(body);
    });
  }
}

async function readAll(stream) {
  const chunks = [];
  for await (const chunk of stream) {
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}

function metricPayload({ workflow_run: run, workflow, repository }) {
  const timestamp = Math.floor(Date.parse(run.updated_at) / 1000);
  const duration = (Date.parse(run.updated_at) - Date.parse(run.run_started_at)) / 1000;
  const tags = [
    `repository_owner:${repository.owner.login}`,
    `repository_name:${repository.name}`,
    `workflow_name:${workflow.name}`,
    `event:${run.event}`,
    `branch:${run.head_branch}`,
    `conclusion:${run.conclusion}`,
  ];
  const series = (name, type, value) => ({
    metric: `github.actions.workflow_run.${name}`,
    type,
    points: [{ timestamp, value }],
    tags,
  });
  const [count, gauge] = [1, 3];
  return {
    series: [
      series("total", count, 1),
      series(`conclusion.${run.conclusion}_total`, count, 1),
      series("duration_second", gauge, duration),
    ],
  };
}

const webhooks = new Webhooks({ secret: process.env.GITHUB_WEBHOOK_SECRET });
const datadog = new DatadogService({ dryRun: process.argv.includes("--dry-run") });

async function answer(request) {
  if (request.method !== "POST" || request.url !== "/webhook") {
    return 404;
  }
  const body = await readAll(request);
  const signature = request.headers["x-hub-signature-256"];
  if (!signature || !(await webhooks.verify(body, signature))) {
    return 401;
  }
  const event = JSON.parse(body);
  if (request.headers["x-github-event"] !== "workflow_run" || event.action !== "completed") {
    return 200;
  }
  await datadog.submitMetrics(metricPayload(event), [String(event.workflow_run.id)]);
  return 202;
}

const server = http.createServer((request, response) => {
  answer(request)
    .catch((error) => {
      console.error("Error handling delivery:", error);
      return 500;
    })
    .then((status) => {
      response.statusCode = status;
      response.setHeader("Content-Type", "application/json");
      response.end(JSON.stringify({ status }));
    });
});

server.listen(Number(process.env.PORT ?? 8080), "127.0.0.1", () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}/webhook`);
});
