package dev.toolkit.trainer.ui

import android.app.AlertDialog
import android.content.Intent
import android.view.View
import android.widget.TextView
import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.SharedFiles
import dev.toolkit.trainer.store.TraceReader
import dev.toolkit.trainer.store.isApproximate

/** Asks as what an adapter leaves this phone, and says what it may give away. */
class Sharing(private val screen: Screen) {
    private val app = TrainerApp.of(screen)

    init {
        screen.asks(SHARE) { ask(it) }
    }

    fun ask(run: String) = screen.inBackground({ app.runs.find(run)?.let(::wasApproximate) ?: false }) { approximate ->
        val words = listOfNotNull(R.string.share_warning, R.string.adapter_approximate.takeIf { approximate }, R.string.share_forms)
        val view = screen.layoutInflater.inflate(R.layout.share, null)
        view.requireViewById<TextView>(R.id.words).text = words.joinToString("\n\n") { screen.getString(it) }
        val dialog = AlertDialog.Builder(screen).setTitle(R.string.share_title).setView(view).setNegativeButton(R.string.cancel, null).show()
        fun choice(button: Int, make: (Run) -> Intent?) = view.requireViewById<View>(button).setOnClickListener {
            dialog.dismiss()
            send(run, make)
        }
        choice(R.id.share_gguf) { SharedFiles.gguf(screen, it, app.bundles.require(it.bundle)) }
        choice(R.id.share_zip) { SharedFiles.adapter(screen, it) }
        screen.keep(SHARE, run, dialog)
    }

    /** By the model's manifest, or by the trace where the model is gone. */
    private fun wasApproximate(run: Run) =
        isApproximate(app.bundles.find(run.bundle)?.takeIf { it.problem == null }?.lowering ?: TraceReader(run.trace).read().lowering)

    private fun send(name: String, make: (Run) -> Intent?) = screen.inBackground({
        try {
            app.runs.find(name)?.let(make) to screen.getString(R.string.adapter_none)
        } catch (error: AppException) {
            null to error.message.orEmpty()
        }
    }) { (intent, problem) ->
        if (intent == null) screen.tell(problem) else screen.startActivity(Intent.createChooser(intent, screen.getString(R.string.share)))
    }

    private companion object {
        const val SHARE = "share"
    }
}
