// Prints, as JSON, the full name of every image that the end-to-end tests of this Kubernetes use: local images take these
// names, since nothing is pulled.
package main

import (
	"encoding/json"
	"os"

	"k8s.io/kubernetes/test/utils/image"
)

func main() {
	names := []string{}
	for _, config := range image.GetImageConfigs() {
		names = append(names, config.GetE2EImage())
	}
	if err := json.NewEncoder(os.Stdout).Encode(names); err != nil {
		os.Exit(1)
	}
}
