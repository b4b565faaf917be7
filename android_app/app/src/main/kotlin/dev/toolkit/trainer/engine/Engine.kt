package dev.toolkit.trainer.engine

import org.json.JSONObject

/** The native engine of this process, loaded once; an APK without it still opens and says so. */
object Engine {
    private val failure: String? by lazy {
        try {
            System.loadLibrary("toolkit_jni")
            null
        } catch (error: UnsatisfiedLinkError) {
            error.message ?: "it cannot be loaded"
        }
    }

    val available: Boolean get() = failure == null

    /** Why the engine is not [available]. */
    val problem: String? get() = failure

    /** What the engine says about itself: version, abi, isa, threads, cores. */
    fun info(): JSONObject {
        require()
        return JSONObject(String(NativeTrainer.info(), Charsets.UTF_8))
    }

    internal fun require() {
        failure?.let { throw EngineException("this build has no training engine: $it".toByteArray(), 1) }
    }
}
