package dev.toolkit.trainer.ui

import android.app.AlertDialog
import android.content.Intent
import dev.toolkit.trainer.R
import dev.toolkit.trainer.TrainerApp
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.Run
import dev.toolkit.trainer.store.SharedFiles

/** Asks as what an adapter leaves this phone, and says what it may give away. */
class Sharing(private val screen: Screen) {
    private val app = TrainerApp.of(screen)

    fun ask(run: String) {
        AlertDialog.Builder(screen).setTitle(R.string.share_title).setMessage(R.string.share_warning)
            .setPositiveButton(R.string.share_gguf) { _, _ -> send(run) { SharedFiles.gguf(screen, it, app.bundles.require(it.bundle)) } }
            .setNegativeButton(R.string.share_peft) { _, _ -> send(run) { SharedFiles.adapter(screen, it) } }
            .setNeutralButton(R.string.cancel, null).show()
    }

    private fun send(name: String, make: (Run) -> Intent?) = screen.inBackground({
        try {
            app.runs.find(name)?.let(make) to screen.getString(R.string.adapter_none)
        } catch (error: AppException) {
            null to error.message.orEmpty()
        }
    }) { (intent, problem) ->
        if (intent == null) screen.tell(problem) else screen.startActivity(Intent.createChooser(intent, screen.getString(R.string.share)))
    }
}
