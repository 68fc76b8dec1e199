// Renders a chart as `helm template` does, on Debian's Go and its sprig library, where there is no helm: templates of the
// chart and of its file:// dependencies, values of both, and helm's own functions. It writes the manifests as one JSON
// list. usage: renderer [-namespace N] [-name N] [-f VALUES]... CHART
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig"
	"sigs.k8s.io/yaml"
)

type values = map[string]interface{}

type dependency struct {
	Name       string `json:"name"`
	Repository string `json:"repository"`
}

type metadata struct {
	Name         string       `json:"name"`
	Version      string       `json:"version"`
	AppVersion   string       `json:"appVersion"`
	Type         string       `json:"type"`
	Dependencies []dependency `json:"dependencies"`
}

type chart struct {
	meta   metadata
	folder string
	values values
	subs   []*chart
}

type files struct{ folder string }

func (f files) Get(name string) string {
	content, err := os.ReadFile(filepath.Join(f.folder, name))
	if err != nil {
		return ""
	}
	return string(content)
}

func read(path string, into interface{}) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return yaml.Unmarshal(content, into)
}

func load(folder string) (*chart, error) {
	found := &chart{folder: folder, values: values{}}
	if err := read(filepath.Join(folder, "Chart.yaml"), &found.meta); err != nil {
		return nil, err
	}
	if err := read(filepath.Join(folder, "values.yaml"), &found.values); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, row := range found.meta.Dependencies {
		path := strings.TrimPrefix(row.Repository, "file://")
		if path == row.Repository {
			return nil, fmt.Errorf("%s: only file:// dependencies are read here", row.Name)
		}
		sub, err := load(filepath.Join(folder, path))
		if err != nil {
			return nil, err
		}
		found.subs = append(found.subs, sub)
	}
	return found, nil
}

// merge lays over on top of base; a null takes a default away, as in helm.
func merge(base, over values) values {
	out := values{}
	for name, value := range base {
		out[name] = value
	}
	for name, value := range over {
		below, isMap := out[name].(values)
		above, both := value.(values)
		switch {
		case value == nil:
			delete(out, name)
		case isMap && both:
			out[name] = merge(below, above)
		default:
			out[name] = value
		}
	}
	return out
}

// defaults are a chart's own values with those of its dependencies below their names.
func defaults(of *chart) values {
	out := values{}
	for _, sub := range of.subs {
		out[sub.meta.Name] = defaults(sub)
	}
	return merge(out, of.values)
}

type versions []string

func (v versions) Has(name string) bool {
	for _, row := range v {
		if row == name {
			return true
		}
	}
	return false
}

func toYaml(value interface{}) string {
	text, err := yaml.Marshal(value)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(text), "\n")
}

func functions(all *template.Template) template.FuncMap {
	own := sprig.TxtFuncMap()
	delete(own, "env")
	delete(own, "expandenv")
	own["toYaml"] = toYaml
	own["fromYaml"] = func(text string) values {
		out := values{}
		if err := yaml.Unmarshal([]byte(text), &out); err != nil {
			out["Error"] = err.Error()
		}
		return out
	}
	own["fromYamlArray"] = func(text string) []interface{} {
		out := []interface{}{}
		if err := yaml.Unmarshal([]byte(text), &out); err != nil {
			out = []interface{}{err.Error()}
		}
		return out
	}
	own["toJson"] = func(value interface{}) string {
		text, err := json.Marshal(value)
		if err != nil {
			return ""
		}
		return string(text)
	}
	own["lookup"] = func(string, string, string, string) values { return values{} } // no cluster, as in helm template
	own["required"] = func(warning string, value interface{}) (interface{}, error) {
		if value == nil || value == "" {
			return value, errors.New(warning)
		}
		return value, nil
	}
	own["fail"] = func(warning string) (string, error) { return "", errors.New(warning) }
	own["include"] = func(name string, data interface{}) (string, error) {
		var out strings.Builder
		err := all.ExecuteTemplate(&out, name, data)
		return out.String(), err
	}
	own["tpl"] = func(text string, data interface{}) (string, error) {
		copied, err := all.Clone()
		if err != nil {
			return "", err
		}
		parsed, err := copied.New("tpl").Parse(text)
		if err != nil {
			return "", err
		}
		var out strings.Builder
		err = parsed.Execute(&out, data)
		return strings.ReplaceAll(out.String(), "<no value>", ""), err
	}
	return own
}

func parse(all *template.Template, of *chart) ([]string, error) {
	names := []string{}
	paths, err := filepath.Glob(filepath.Join(of.folder, "templates", "*"))
	if err != nil {
		return nil, err
	}
	sort.Strings(paths)
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		name := of.meta.Name + "/templates/" + filepath.Base(path)
		if _, err := all.New(name).Parse(string(content)); err != nil {
			return nil, err
		}
		partial := strings.HasPrefix(filepath.Base(path), "_") || filepath.Ext(path) == ".txt" || of.meta.Type == "library"
		if !partial {
			names = append(names, name)
		}
	}
	return names, nil
}

var separator = regexp.MustCompile(`(?m)^---\s*$`)

func manifests(name, text string) ([]interface{}, error) {
	out := []interface{}{}
	for _, part := range separator.Split(text, -1) {
		var document interface{}
		// Strict: a key that is there twice is a fault.
		if err := yaml.UnmarshalStrict([]byte(part), &document); err != nil {
			return nil, fmt.Errorf("%s is not YAML: %w\n%s", name, err, part)
		}
		if document != nil {
			out = append(out, document)
		}
	}
	return out, nil
}

func render(folder, release, namespace string, given []string) ([]interface{}, error) {
	root, err := load(folder)
	if err != nil {
		return nil, err
	}
	merged := defaults(root)
	for _, path := range given {
		over := values{}
		if err := read(path, &over); err != nil {
			return nil, err
		}
		merged = merge(merged, over)
	}
	all := template.New("root").Option("missingkey=zero")
	all.Funcs(functions(all))
	for _, sub := range root.subs {
		if _, err := parse(all, sub); err != nil {
			return nil, err
		}
	}
	names, err := parse(all, root)
	if err != nil {
		return nil, err
	}
	out := []interface{}{}
	for _, name := range names {
		var text bytes.Buffer
		err := all.ExecuteTemplate(&text, name, values{
			"Values": merged,
			"Chart":  values{"Name": root.meta.Name, "Version": root.meta.Version, "AppVersion": root.meta.AppVersion},
			"Release": values{"Name": release, "Namespace": namespace, "Service": "Helm", "IsInstall": true,
				"IsUpgrade": false, "Revision": 1},
			"Capabilities": values{"APIVersions": versions{"v1"}, "KubeVersion": values{"Version": "v1.31.0", "Major": "1", "Minor": "31"}},
			"Template":     values{"Name": name, "BasePath": root.meta.Name + "/templates"},
			"Files":        files{root.folder},
		})
		if err != nil {
			return nil, err
		}
		found, err := manifests(name, strings.ReplaceAll(text.String(), "<no value>", ""))
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	return out, nil
}

type list []string

func (l *list) String() string         { return strings.Join(*l, ",") }
func (l *list) Set(value string) error { *l = append(*l, value); return nil }

// Also turns YAML into JSON, for what helm itself has rendered.
func main() {
	var given list
	release := flag.String("name", "release", "")
	namespace := flag.String("namespace", "default", "")
	parse := flag.Bool("parse", false, "only turn the YAML of standard input into JSON")
	flag.Var(&given, "f", "file with values")
	flag.Parse()
	var out []interface{}
	var err error
	if *parse {
		var text bytes.Buffer
		if _, err = text.ReadFrom(os.Stdin); err == nil {
			out, err = manifests("input", text.String())
		}
	} else {
		out, err = render(flag.Arg(0), *release, *namespace, given)
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(out)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
