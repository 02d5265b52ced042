"""The MPIJob manifest against what the Kubeflow mpi-operator takes (kubeflow.org/v2beta1) and, as far as it is used here, a pod's own
schema. Fields are those of the operator's CustomResourceDefinition; unlike there, one that is not known is an error, so that a typo is."""
import copy
import subprocess
import unittest

import jsonschema
import yaml

from support import ROOT, run_tests

MANIFEST = ROOT / "deploy" / "kubernetes" / "mpijob.yaml"


def fields(required=(), **properties):
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def each(schema):
    return {"type": "array", "minItems": 1, "items": schema}


STRING, WHOLE, YES_OR_NO = {"type": "string"}, {"type": "integer"}, {"type": "boolean"}
QUANTITY = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?(m|[kMGTPE]i?)?$"}
QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}
NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"}
PROBE = fields(tcpSocket=fields(["port"], port=WHOLE), periodSeconds=WHOLE, failureThreshold=WHOLE)
MOUNT = fields(["name", "mountPath"], name=NAME, mountPath={"type": "string", "pattern": "^/"}, readOnly=YES_OR_NO)
VOLUME = fields(["name"], name=NAME, persistentVolumeClaim=fields(["claimName"], claimName=NAME, readOnly=YES_OR_NO),
                emptyDir=fields(medium={"enum": ["", "Memory"]}, sizeLimit=QUANTITY))
CONTAINER = fields(["name", "image"], name=NAME, image=STRING, command=each(STRING), args=each(STRING), readinessProbe=PROBE,
                   resources=fields(limits=QUANTITIES, requests=QUANTITIES), volumeMounts=each(MOUNT))
POD = fields(["spec"], spec=fields(["containers"], containers=each(CONTAINER), volumes=each(VOLUME), terminationGracePeriodSeconds=WHOLE,
                                   securityContext=fields(runAsNonRoot=YES_OR_NO, runAsUser=WHOLE, fsGroup=WHOLE)))
REPLICAS = fields(["template"], replicas={"type": "integer", "minimum": 1}, restartPolicy={"enum": ["Never", "OnFailure"]}, template=POD)
MPI_JOB = fields(
    ["apiVersion", "kind", "metadata", "spec"], apiVersion={"const": "kubeflow.org/v2beta1"}, kind={"const": "MPIJob"},
    metadata=fields(["name"], name=NAME),
    spec=fields(
        ["mpiReplicaSpecs"], slotsPerWorker=WHOLE, runLauncherAsWorker=YES_OR_NO, sshAuthMountPath=STRING,
        launcherCreationPolicy={"enum": ["AtStartup", "WaitForWorkersReady"]}, mpiImplementation={"enum": ["OpenMPI", "Intel", "MPICH"]},
        runPolicy=fields(cleanPodPolicy={"enum": ["All", "Running", "None"]}, ttlSecondsAfterFinished=WHOLE, activeDeadlineSeconds=WHOLE, backoffLimit=WHOLE,
                         suspend=YES_OR_NO),
        mpiReplicaSpecs=fields(["Launcher", "Worker"], Launcher=REPLICAS, Worker=REPLICAS)))


class Manifest(unittest.TestCase):
    def setUp(self):
        self.manifest = yaml.safe_load(MANIFEST.read_text())
        self.pods = {kind: of_kind["template"]["spec"] for kind, of_kind in self.manifest["spec"]["mpiReplicaSpecs"].items()}

    def test_it_is_what_the_operator_takes(self):
        jsonschema.validate(self.manifest, MPI_JOB)

    def test_a_typo_would_be_seen(self):
        for path, wrong in ((("spec",), {"slotPerWorker": 1}), (("spec", "runPolicy"), {"cleanPodPolicy": "Runing"}),
                            (("spec", "mpiReplicaSpecs", "Worker"), {"restartPolicy": "Always"})):
            broken = copy.deepcopy(self.manifest)
            at = broken
            for key in path:
                at = at[key]
            at.update(wrong)
            with self.assertRaises(jsonschema.ValidationError, msg=str(wrong)):
                jsonschema.validate(broken, MPI_JOB)

    def test_every_mount_has_its_volume_and_every_script_is_one(self):
        for kind, pod in self.pods.items():
            volumes = {volume["name"] for volume in pod["volumes"]}
            for container in pod["containers"]:
                self.assertEqual({mount["name"] for mount in container["volumeMounts"]} - volumes, set(), kind)
                self.assertEqual(container["command"], ["/bin/bash", "-c"])
                subprocess.run(["bash", "-n", "-c", container["args"][0]], check=True)


if __name__ == "__main__":
    run_tests()
