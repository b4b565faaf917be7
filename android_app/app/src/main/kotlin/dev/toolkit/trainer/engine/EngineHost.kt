package dev.toolkit.trainer.engine

import org.json.JSONObject

/** Where the engine runs; both hosts run the same one. */
interface EngineHost {
    /** Whether it runs in a process of its own, which the system can end without the app. */
    val isChild: Boolean

    /** What the engine says about itself: version, abi, isa, threads, cores. */
    fun info(): JSONObject

    /**
     * What a run with these options will hold and write, as toolkit_trainer.h has it; nothing is computed or stored.
     *
     * @param options names of `trainer train --help` without dashes
     * @param begun given what ends it early, where it can be ended
     * @throws EngineException it could not be trained, was ended, or something else is open
     */
    fun dryRun(options: Map<String, String>, begun: (() -> Unit) -> Unit = {}): JSONObject

    /**
     * Opens a run.
     *
     * @param options names of `trainer train --help` without dashes
     * @throws EngineException the run cannot be opened, or another one is open
     */
    fun open(options: Map<String, String>): Trainer

    /**
     * Opens a model to be asked.
     *
     * @param options names of `trainer generate --help` without dashes
     * @throws EngineException it cannot be opened, or something else is open
     */
    fun generator(options: Map<String, String>): Generator
}
