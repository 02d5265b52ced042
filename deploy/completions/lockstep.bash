# Completion of bash for lockstep: commands, options, settings after --set, runs.

_lockstep_runs() {
  local folder=${LOCKSTEP_RUNS:-runs} run
  for run in "$folder"/*/config.yaml; do
    [[ -e $run ]] && run=${run%/config.yaml} && echo "${run##*/}"
  done
}

_lockstep() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} program=${COMP_WORDS[0]}
  local command=${COMP_WORDS[1]}
  local commands="run serve status watch stop checkpoint runs evaluate predict report compare trace verify dataset bench doctor lab"
  COMPREPLY=()

  if [[ $COMP_CWORD == 1 ]]; then
    COMPREPLY=($(compgen -W "$commands --help --version" -- "$current"))
    return
  fi
  case $previous in
    --set)
      # The setting's value is the user's own.
      COMPREPLY=($(compgen -S = -W "$("$program" run --setting-names 2>/dev/null)" -- "$current"))
      compopt -o nospace
      return ;;
    --resume)
      COMPREPLY=($(compgen -W "$(_lockstep_runs)" -- "$current") $(compgen -d -- "$current"))
      return ;;
    --out | --data | --output | --html | --hostfile | --tls-cert | --tls-key | --tls-ca)
      COMPREPLY=($(compgen -f -- "$current"))
      compopt -o filenames
      return ;;
    --split)
      COMPREPLY=($(compgen -W "val train" -- "$current"))
      return ;;
    --checkpoint)
      COMPREPLY=($(compgen -W "best latest step-" -- "$current"))
      return ;;
    --workers | --listen | --train | --val | --seed | --sample) return ;;
  esac

  local options
  case $command in
    run) options="--resume --workers --out --set --inject --hosts --hostfile --lab --slurm --ssh --tls-cert --tls-key --tls-ca --insecure --allow-root --dry-run --settings" ;;
    serve) options="--resume --listen --workers --out --set --inject --tls-cert --tls-key --tls-ca --insecure" ;;
    doctor) options="--set --workers --out --hosts --hostfile --lab --slurm --ssh --json" ;;
    status | watch | stop | checkpoint | verify | runs) options="--json" ;;
    evaluate) options="--checkpoint --data --split --json" ;;
    predict) options="--checkpoint --data --split --output --json" ;;
    bench) options="--workers --algorithms --sizes --min --max --factor --seconds --timeout --json" ;;
    report) options="--steps --html --bench --json" ;;
    compare) options="--steps --target --json" ;;
    trace) options="--out --steps" ;;
    lab)
      case ${COMP_WORDS[2]} in
        up) options="--hosts --rate --delay --per-host --name" ;;
        *) options="--name" ;;
      esac ;;
    dataset)
      case ${COMP_WORDS[2]} in
        make) options="--out --train --val --seed" ;;
        show) options="--sample --json" ;;
      esac ;;
  esac
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W "$options --help" -- "$current"))
    return
  fi
  case $command in
    run | serve)
      COMPREPLY=($(compgen -f -X '!*.y?(a)ml' -- "$current") $(compgen -d -- "$current"))
      compopt -o filenames ;;
    status | watch | stop | checkpoint | verify | evaluate | predict | report | compare | trace)
      COMPREPLY=($(compgen -W "$(_lockstep_runs)" -- "$current") $(compgen -d -- "$current")) ;;
    bench) [[ $COMP_CWORD == 2 ]] && COMPREPLY=($(compgen -W "allreduce" -- "$current")) ;;
    dataset)
      if [[ $COMP_CWORD == 2 ]]; then
        COMPREPLY=($(compgen -W "make show" -- "$current"))
      elif [[ ${COMP_WORDS[2]} == make ]]; then
        COMPREPLY=($(compgen -W "digits" -- "$current"))
      else
        COMPREPLY=($(compgen -d -- "$current"))
      fi ;;
  esac
}

complete -F _lockstep lockstep
