// Checks the ServiceMonitors in files of manifests, which kubernetes-validate does not know: against the operator's schema,
// and that they have no field which that does not know. Packages are looked for where it is started:
//
//     npm install @kubernetes-models/prometheus-operator yaml
//     node --input-type=module - MANIFESTS.yaml… < deploy/kubernetes/validate.mjs

import { readFileSync } from "node:fs";
import { ServiceMonitor } from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/ServiceMonitor";
import { parseAllDocuments } from "yaml";

function isValid(monitor) {
  try {
    new ServiceMonitor(monitor).validate();
    return true;
  } catch {
    return false;
  }
}

// The schema lets pass what it does not know. Each field that it knows has a type, and a function is of none of them.
function unknownFields(monitor, part = monitor, path = "") {
  return Object.entries(part).flatMap(([key, value]) => {
    part[key] = () => {};
    const isUnknown = isValid(monitor);
    part[key] = value;
    if (isUnknown) return [`${path}/${key}`];
    return value instanceof Object ? unknownFields(monitor, value, `${path}/${key}`) : [];
  });
}

for (const file of process.argv.slice(2)) {
  const documents = parseAllDocuments(readFileSync(file, "utf8")).map((document) => document.toJS());
  const monitors = documents.filter((document) => document?.kind === "ServiceMonitor");
  if (monitors.length === 0) throw new Error(`${file}: no ServiceMonitor`);
  for (const monitor of monitors) {
    new ServiceMonitor(monitor).validate();
    const unknown = unknownFields(monitor);
    if (unknown.length > 0) throw new Error(`${file}: unknown: ${unknown.join(", ")}`);
    console.log(`${file}: ServiceMonitor ${monitor.metadata.name} is valid`);
  }
}
